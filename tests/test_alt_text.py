"""Charts in words: what is said is what the chart holds."""

from __future__ import annotations

import re
from pathlib import Path

import plotly.graph_objects as go

from cake_core import figures
from cake_core.alt_text import alt_text

PAGES = Path(__file__).parents[1] / "pages"


def test_bars_say_their_labels_and_values():
    summary = [
        {"method": m, "title": t, "seeds": 3, "agreement_mean": a, "agreement_std": 0.01}
        for m, t, a in (("cake", "CAKE", 0.9), ("noise", "Noise", 0.25))
    ]
    assert alt_text(figures.methods(summary, "agreement")) == (
        "Agreement with the teacher on real test data. CAKE 90.0 ± 1.0 %, Noise 25.0 ± 1.0 %"
    )


def test_lines_points_and_names():
    figure = go.Figure(
        [go.Scatter(x=[0, 1], y=[2.0, 0.5], name="loss"), go.Scatter(x=[0, 1, 2], y=[1, 1, 1], mode="markers")]
    )
    figure.update_layout(xaxis_title="step", yaxis_title="<b>value</b>")
    assert alt_text(figure) == "value against step. loss: from 2 to 0.5. 3 points"
    figure.update_layout(meta="Said already.")
    assert alt_text(figure) == "Said already."
    assert len(alt_text(go.Figure(go.Bar(x=["x" * 200] * 30, y=[1] * 30)))) <= 700


def test_every_picture_of_a_page_has_its_words():
    seen = 0
    for path in PAGES.rglob("*.py"):
        source = path.read_text()
        for call in re.findall(r"\.(?:plotly_chart|image)\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", source):
            assert "alt=" in call, f"{path.name}: {call[:80]}"
            seen += 1
    assert seen >= 5
