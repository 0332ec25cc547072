"""Draw docs/rate-limit.svg: when 25 requests arrive at servers of each kind, in the simulation of limiter.py.

python benchmarks/limiter_picture.py
"""

from pathlib import Path

from limiter import SERVERS, simulated

LIMIT, COUNT, SECONDS = 5, 25, 6.5
LEFT, WIDTH, ROW, TOP = 190, 640, 34, 60
ROWS = (("told", "told 5/1s"), ("text", "told nothing"))


def main() -> None:
    """Write the picture."""
    shapes: list[str] = []
    scale = WIDTH / SECONDS
    y = TOP
    for kind in SERVERS:
        shapes.append(f'<text x="8" y="{y + 22}" class="kind">{kind}</text>')
        for client, label in ROWS:
            took, wire = simulated(client, kind, "wan", limit=LIMIT, count=COUNT, seed=0)
            middle = y + 10
            shapes.append(f'<text x="{LEFT - 8}" y="{middle + 4}" class="label">{label}</text>')
            shapes.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{middle}" y2="{middle}" class="axis"/>')
            for time, accepted in wire.arrivals:
                if time <= SECONDS:
                    x = LEFT + time * scale
                    name = "yes" if accepted else "no"
                    shapes.append(
                        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 7}" y2="{middle + 7}" class="{name}"/>'
                    )
            end = f"{took:.2f} s, {wire.server.rejected} refused"
            shapes.append(f'<text x="{LEFT + WIDTH + 8}" y="{middle + 4}" class="end">{end}</text>')
            y += ROW // 2 + 5
        y += 12
    for second in range(int(SECONDS) + 1):
        x = LEFT + second * scale
        shapes.insert(0, f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 12}" y2="{y - 8}" class="grid"/>')
        shapes.append(f'<text x="{x:.1f}" y="{TOP - 18}" class="second">{second} s</text>')
    head = "25 requests at once, 5 per second, wide network: arrivals at the server (long: accepted, red: refused)"
    Path(__file__).parents[1].joinpath("docs/rate-limit.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 150} {y + 6}" '
        'font-family="sans-serif" font-size="12">\n'
        "<style>.kind{font-weight:bold;font-size:11px}.label{text-anchor:end;font-size:10px;fill:#555}"
        ".end{font-size:10px;fill:#555}.second{text-anchor:middle;fill:#777;font-size:10px}.axis{stroke:#ddd}"
        ".grid{stroke:#eee}.yes{stroke:#1a7f37;stroke-width:2;stroke-opacity:.7}"
        ".no{stroke:#cf222e;stroke-width:2}</style>\n"
        f'<rect width="100%" height="100%" fill="white"/>\n<text x="8" y="18">{head}</text>\n'
        + "\n".join(shapes)
        + "\n</svg>\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
