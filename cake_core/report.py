"""A report about a stored run: one HTML file with everything inside, which asks no network for anything."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs

from . import figures, run_figures, runs
from .config import as_text
from .errors import CakeError
from .export import Stored, command, gif, png
from .methods import METHODS
from .pipeline import noise_in_words

__all__ = ["page"]

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2526; background: #fff; margin: 0 auto; max-width: 62rem;
  padding: 1.5rem; }
h1 { font-size: 1.8rem; margin: 0 0 0.3rem; } h2 { font-size: 1.2rem; margin: 2rem 0 0.6rem; }
.numbers { display: grid; gap: 0.8rem; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
.numbers div { border: 1px solid #dde3e3; border-radius: 0.5rem; padding: 0.6rem 0.9rem; }
.numbers b { display: block; font-size: 1.5rem; } .small { color: #5b6768; font-size: 0.9rem; }
.charts { display: grid; gap: 0.6rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
.charts > div { min-width: 0; overflow: hidden; } .pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
.pictures figure { margin: 0; flex: 1 1 18rem; } img { width: 100%; border-radius: 0.4rem; }
table { border-collapse: collapse; font-size: 0.92rem; } td { padding: 0.15rem 1rem 0.15rem 0; vertical-align: top;
  overflow-wrap: anywhere; }
pre { background: #f4f6f6; padding: 0.8rem; border-radius: 0.4rem; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def page(s: Stored) -> str:
    """The report as HTML. Plotly stands in it once; all its charts use it."""
    outcome, control = s.result["outcome"], s.result.get("control")
    bars = figures.copies(outcome, control)
    charts = run_figures.curves({s.title: s.curves}) if s.curves else []
    entry, method = runs.entry(s.run), METHODS[s.experiment.method]
    note = f"<p>{escape(entry.note)}</p>" if entry.note else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(s.title)}</title>
<style>{STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<h1>{escape(s.title)}</h1>
<p class="small">Run {s.run} of CAKE Lab. {escape(method.summary)}</p>
{note}
<h2>How well does it copy?</h2>
<div class="numbers">{_numbers(outcome, control)}</div>
{_chart(bars, 220)}
<p class="small">Whiskers and ranges are 95 % intervals. It took {outcome["samples"]:,} synthetic samples,
{outcome["forward_calls"]:,} answers of the teacher and {outcome["gradient_calls"]:,} gradients. The control is a
student of as many samples of {noise_in_words(s.experiment.to_dict())}, labelled by the same teacher. One run is one
seed.</p>
<h2>The samples</h2>
{_pictures(s)}
<h2>The losses</h2>
<div class="charts">{"".join(_chart(c, 230) for c in charts) or "<p>None were kept.</p>"}</div>
<h2>Settings</h2>
{_table(runs.differences([s.experiment.to_dict(), {}]))}
<h2>Make it again</h2>
<pre>{escape(command(s).decode())}</pre>
<h2>Where it was made</h2>
{_table(_surroundings(s))}
<script>
// A chart is drawn as soon as it is read, when what stands beside it is not there yet: all take their final size here.
addEventListener("load", () => dispatchEvent(new Event("resize")));
</script>
</body>
</html>
"""


def _numbers(outcome: dict[str, Any], control: dict[str, Any] | None) -> str:
    found = []
    for name, words in (
        ("student_accuracy", "Student's accuracy"),
        ("agreement", "Agreement with the teacher"),
        ("near_boundary", "Samples near the boundary"),
        ("plane_agreement", "Agreement over the plane"),
    ):
        if outcome.get(name) is not None:
            low, high = outcome[f"{name}_interval"]
            found.append((100 * outcome[name], words, f"{100 * low:.1f} to {100 * high:.1f} %"))
    which = "student_accuracy" if outcome.get("student_accuracy") is not None else "agreement"
    if control and control.get(which) is not None:
        words = "Accuracy" if which == "student_accuracy" else "Agreement"
        found.append((100 * control[which], f"{words} on noise alone", "the control"))
    return "".join(f'<div>{w}<b>{v:.1f} %</b><span class="small">{r}</span></div>' for v, w, r in found)


def _chart(figure: Any, height: int) -> str:
    figure.update_layout(template="plotly_white", height=height, autosize=True)
    look = {"displayModeBar": False, "responsive": True}
    html = figure.to_html(full_html=False, include_plotlyjs=False, include_mathjax=False, config=look)
    return f"<div>{html}</div>"


def _pictures(s: Stored) -> str:
    try:
        still, moving = (base64.b64encode(make(s)).decode() for make in (png, gif))
    except CakeError as error:
        return f"<p>{escape(str(error))}</p>"
    return (
        f'<div class="pictures"><figure><img alt="The samples at the end" src="data:image/png;base64,{still}">'
        '<figcaption class="small">At the end</figcaption></figure>'
        f'<figure><img alt="The samples on their way" src="data:image/gif;base64,{moving}">'
        '<figcaption class="small">On their way</figcaption></figure></div>'
    )


def _surroundings(s: Stored) -> list[tuple[str, list[Any]]]:
    about = {"run": s.run, **s.config.get("code", {}), **s.config.get("environment", {})}
    about |= {k: s.result[k] for k in ("device", "threads") if k in s.result}
    return [(k, [v]) for k, v in about.items() if v not in ("", None)]


def _table(rows: list[tuple[str, list[Any]]]) -> str:
    lines = (
        f"<tr><td>{escape(k)}</td><td>{escape(as_text(v[0]))}</td></tr>" for k, v in rows if v[0] not in (None, "")
    )
    return f"<table>{''.join(lines)}</table>"
