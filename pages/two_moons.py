"""Two moons, the flagship: points walk to a teacher's decision boundary while one watches."""

from pages._ui import panels
from pages._ui.lab import distillation_lab
from pages._ui.page import open_page

open_page(
    "Two moons",
    "Press **Play**: random points walk to the boundary between the teacher's classes. "
    "A student then learns from them alone, without ever seeing the teacher's data.",
)
screen = distillation_lab(
    "two_moons",
    "moons",
    {
        "CAKE": {},
        "Naive": {"method": "naive"},
        "LAKE": {"method": "lake"},
        "One spot, CAKE": {"sigma": "0.1", "step_size": "0.5", "decades": "0"},
        "One spot, LAKE": {"method": "lake", "sigma": "0.1"},
        "Noise only": {"method": "noise"},
    },
)
if screen.options.shows("figures") and not screen.options.kiosk:
    panels.show_figure_one()
