"""Average two states of one voice's training, which is often better than either.

    blend.py EARLIER.pt LATER.pt SHARE OUT.pt

SHARE, 0 to 1: of the later one's weights.
"""

from __future__ import annotations

import sys

import torch


def main() -> None:
    earlier, later = (torch.load(path, weights_only=True, map_location="cpu") for path in sys.argv[1:3])
    share = float(sys.argv[3])
    average = {k: v.lerp(later["average"][k], share) if v.is_floating_point() else v for k, v in earlier["average"].items()}
    blend = {"share": share, "earlier_steps": earlier["step"]}
    torch.save({"average": average, "step": later["step"], "spent_s": later["spent_s"], "blend": blend}, sys.argv[4])


if __name__ == "__main__":
    main()
