"""Images: noise that becomes something the teacher recognises, sample by sample."""

from pages._ui.lab import distillation_lab
from pages._ui.page import open_page

open_page(
    "Images",
    "Press **Play**: noise turns into images that the teacher recognises. To us they hardly look like digits; "
    "yet a student who learns from them alone reads real ones.",
)
distillation_lab(
    "images",
    "digits",
    {
        "CAKE": {},
        "Naive": {"method": "naive"},
        "LAKE": {"method": "lake"},
        "No smoothness": {"weight_variation": "0"},
        "Noise only": {"method": "noise"},
    },
    rate=60,
)
