"""The pictures of a report, as SVG and PNG. A contender has the same color in all pictures."""

import io
import math
import re
from collections.abc import Iterable, Sized
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmark.report.statistics import Comparison

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#666666")  # Okabe and Ito, ...
MARKERS = dict(zip(COLORS, "osD^vPX*", strict=True))  # for readers who cannot tell the colors apart
STYLE = {
    "figure.dpi": 100, "savefig.dpi": 160, "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333", "xtick.color": "#555555", "ytick.color": "#555555", "axes.grid": True,
    "grid.color": "#E4E4E4", "grid.linewidth": 0.7, "axes.axisbelow": True, "legend.frameon": False,
    "lines.linewidth": 1.6, "svg.hashsalt": "q-ladder", "text.parse_math": False,
}  # fmt: skip
WIDTH = 10.0  # inches; a single panel has half of it, and fits on a phone
PANEL_HEIGHT = 2.7
LEGEND_ROW = 0.2
TITLE = 34  # characters in the title of a panel, of which three stand in a row


def palette(labels: list[str]) -> dict[str, str]:
    """{label: color}; with more labels than COLORS, colors of a rainbow, all different."""
    if few(labels):
        return dict(zip(labels, COLORS, strict=False))
    rainbow = matplotlib.colormaps["turbo"](np.linspace(0, 1, len(labels)))
    return {label: matplotlib.colors.to_hex(color) for label, color in zip(labels, rainbow, strict=True)}


def few(colors: Sized) -> bool:
    """Whether the contenders are few enough to draw their intervals."""
    return len(colors) <= len(COLORS)


def short(name: str, most: int = 60) -> str:
    """A name that fits into a figure: its beginning and its end, without characters that SVG cannot hold."""
    name = "".join(character if character.isprintable() else " " for character in name)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def without_modules(env_ids: str) -> str:
    """Ids without modules: MinAtar/Breakout-v1 for benchmark.envs:MinAtar/Breakout-v1."""
    return re.sub(r"(^|, )[\w.]+:", r"\1", env_ids)


def title(env_ids: str) -> str:
    """Environments as the title of a panel: without modules, and cut to its width."""
    return short(without_modules(env_ids), TITLE)


def panels(count: int, height: float = PANEL_HEIGHT, most: int = 3) -> tuple[Figure, list]:
    """A figure with `count` panels, at most `most` in a row, and room for a legend below."""
    columns = min(count, most)
    rows = math.ceil(count / columns)
    size = (WIDTH if columns > 1 else WIDTH / 2, rows * height + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for unused in axes.flat[count:]:
        unused.set_axis_off()
    return figure, list(axes.flat[:count])


def legend(figure: Figure, colors: dict[str, str], extra: Iterable[Line2D] = ()) -> None:
    """One legend for all panels. Matplotlib leaves out names that begin with an underscore, so these get a prefix."""
    handles = [Line2D([], [], color=color, marker=MARKERS.get(color), markersize=5) for color in colors.values()]
    handles += extra
    names = [*colors, *(line.get_label() for line in extra)]
    names = [f"\u200b{name}" if name.startswith("_") else name for name in map(short, names)]
    fit = int(11.5 * figure.get_figwidth() / (max(map(len, names)) + 6))  # names as long as the longest
    rows = math.ceil(len(names) / max(fit, 1))
    columns = math.ceil(len(names) / rows)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * (rows - 1))
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def thousands(axes) -> None:
    """Writes steps as 20k and 1M."""

    def text(x: float, _) -> str:
        return f"{x / 1e6:g}M" if abs(x) >= 1e6 else f"{x / 1e3:g}k" if abs(x) >= 1e3 else f"{x:g}"

    axes.xaxis.set_major_formatter(FuncFormatter(text))
    axes.xaxis.set_major_locator(MaxNLocator(5))


def save(figure: Figure, folder: Path, name: str) -> str:
    """Writes NAME.svg and NAME.png, and returns the text of the SVG."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    (folder / f"{name}.svg").write_text(text.getvalue(), encoding="utf-8")
    figure.savefig(folder / f"{name}.png", format="png")
    plt.close(figure)
    return text.getvalue()


def band(axes, x, middle, low, high, color: str, shaded: bool = True, **style) -> None:
    """A line and its interval."""
    marks = {"marker": MARKERS.get(color, "o" if len(x) == 1 else None), "markevery": max(len(x) // 5, 1)}
    axes.plot(x, middle, color=color, markersize=4, **marks, **style)
    if shaded:
        axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)


def curves(
    by_env: dict[str, dict[str, tuple]],
    colors: dict[str, str],
    references: dict,
    quantity: str = "greedy return",
    xlabel: str = "environment steps",
) -> Figure:
    """by_env: {environment: {label: (x, IQM, low, high)}}."""
    figure, axes = panels(len(by_env))
    for panel, (env_id, by_label) in zip(axes, by_env.items(), strict=True):
        for label, (x, middle, low, high) in by_label.items():
            band(panel, x, middle, low, high, colors[label], few(colors))
        if env_id in references:
            panel.axhline(references[env_id]["reference"], color="#999999", linestyle=":", linewidth=1)
        panel.set(title=title(env_id), xlabel=xlabel, ylabel=quantity)
        thousands(panel)
    dotted = [Line2D([], [], color="#999999", linestyle=":", label="reference")]
    legend(figure, colors, dotted if set(by_env) & set(references) else ())
    return figure


def curves_across(by_label: dict[str, tuple], colors: dict[str, str]) -> Figure:
    """by_label: {label: (share of training, IQM of normalised returns, low, high)}."""
    figure, (panel,) = panels(1, 3.6)
    for label, (share, middle, low, high) in by_label.items():
        band(panel, share, middle, low, high, colors[label], few(colors))
    panel.set(xlabel="share of the training steps", ylabel="normalised greedy return, IQM", xlim=(0, 1))
    legend(figure, colors)
    return figure


def finals(by_env: dict[str, dict[str, tuple]], colors: dict[str, str], quantity: str = "greedy return") -> Figure:
    """by_env: {environment: {label: (returns of the seeds, IQM, low, high)}}."""
    rows = [label for label in colors if any(label in by_label for by_label in by_env.values())]  # in every panel
    figure, axes = panels(len(by_env), 0.9 + 0.32 * len(rows))
    rng = np.random.default_rng(0)
    for i, (panel, (env_id, by_label)) in enumerate(zip(axes, by_env.items(), strict=True)):
        for label, (returns, middle, low, high) in by_label.items():
            row = rows.index(label)
            spread = row + rng.uniform(-0.22, 0.22, len(returns))
            panel.plot(returns, spread, ".", color=colors[label], alpha=0.55, markersize=6, markeredgewidth=0)
            panel.plot([low, high], [row, row], color="#222222", linewidth=1.4)
            panel.plot([middle], [row], "|", color="#222222", markersize=11, markeredgewidth=2)
        panel.set_yticks(range(len(rows)), [short(row, 40) if i % 3 == 0 else "" for row in rows])
        panel.set(title=title(env_id), xlabel=f"{quantity} at the end", ylim=(len(rows) - 0.5, -0.5))
        panel.xaxis.set_major_locator(MaxNLocator(5))
    mark = Line2D([], [], color="#222222", marker="|", markersize=9, markeredgewidth=2, label="IQM and 95 % interval")
    legend(figure, {}, [mark])  # the rows have the names
    return figure


def profiles(levels: np.ndarray, by_label: dict[str, tuple], colors: dict[str, str]) -> Figure:
    """by_label: {label: (share of runs at each level or above, low, high)}."""
    figure, (panel,) = panels(1, 3.6)
    for label, (share, low, high) in by_label.items():
        band(panel, levels, share, low, high, colors[label], few(colors), drawstyle="steps-post")
    panel.set(xlabel="normalised return τ", ylabel="share of runs that reach τ", ylim=(0, 1.02))
    legend(figure, colors)
    return figure


def improvement(pairs: list[tuple[str, str, Comparison]]) -> Figure:
    """pairs: (a, b, Comparison); grey if there is no evidence of a difference."""
    names = [f"{short(a, 40)}  over  {short(b, 40)}" for a, b, *_ in pairs]
    width = min(0.34 * WIDTH + 0.07 * max(map(len, names)), 0.75 * WIDTH)  # 0.07 inches a character beside the axes
    figure, axes = plt.subplots(figsize=(width, 0.9 + 0.3 * len(pairs)), layout="constrained")
    for row, (_, _, found) in enumerate(pairs):
        color = "#999999" if found.verdict == "no evidence" else "#222222"
        axes.plot([found.low, found.high], [row, row], color=color, linewidth=1.6)
        axes.plot([found.probability], [row], "o", color=color, markersize=5)
    axes.axvline(0.5, color="#666666", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(pairs)), names)
    axes.set(xlim=(0, 1), ylim=(len(pairs) - 0.5, -0.5), xlabel="probability that a run ends above one of the other")
    return figure


def q_values(by_env: dict[str, dict[str, tuple]], colors: dict[str, str]) -> Figure:
    """by_env: {environment: {label: (steps, predicted, realised)}}, medians over seeds."""
    figure, axes = panels(len(by_env))
    for panel, (env_id, by_label) in zip(axes, by_env.items(), strict=True):
        for label, (steps, predicted, realised) in by_label.items():
            panel.plot(steps, predicted, color=colors[label])
            panel.plot(steps, realised, color=colors[label], linestyle=(0, (3, 1.5)), linewidth=1.2)
        panel.set(title=title(env_id), xlabel="environment steps", ylabel="value")
        thousands(panel)
    styles = [Line2D([], [], color="#555555", label="predicted: max Q")]
    styles += [Line2D([], [], color="#555555", linestyle=(0, (3, 1.5)), label="realised: discounted return")]
    legend(figure, colors, styles)
    return figure


def sweeps(swept: list[tuple], colors: dict[str, str]) -> Figure:
    """A panel for each (environments, swept argument, its values as text, quantity, {script: points}).

    points: {place among the values: (IQM, low, high, returns of the seeds)}.
    """
    figure, axes = panels(len(swept), 3.0, most=2)
    for panel, (env_ids, name, texts, quantity, by_script) in zip(axes, swept, strict=True):
        for script, points in by_script.items():
            middle, low, high, returns = zip(*points.values(), strict=True)
            band(panel, np.array(list(points)), np.array(middle), np.array(low), np.array(high), colors[script])
            for i, own in zip(points, returns, strict=True):
                panel.plot([i] * len(own), own, ".", color=colors[script], alpha=0.4, markersize=4)
        panel.set_xticks(range(len(texts)), texts)
        panel.set(title=title(env_ids), xlabel=short(name, TITLE), ylabel=quantity)
    legend(figure, colors)
    return figure


def setup() -> None:
    """Draws without a display, in the report's style."""
    matplotlib.use("agg")
    plt.rcParams.update(STYLE)
