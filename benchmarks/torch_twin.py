"""The train step of DeepLab-LargeFOV with both branches in PyTorch, for others to time beside ours.

python benchmarks/torch_twin.py --kind=segmenter --batch=8 --precision=bfloat16

Prints "ready", then answers each line on its input, a number of steps, with their seconds. Tuned
as PyTorch's guides say: channels_last, fused SGD, autocast, TF32 and cuDNN's search on GPUs. Its
weights are drawn here and not ours, which costs a convolution the same. Needs torch alone.
"""

import argparse
import contextlib
import sys
import time

import torch
from torch.nn import functional as F

CLASSES, VOID = 20, 255
BLOCKS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)


class LargeFOV(torch.nn.Module):
    """`[B, 3, H, W]` → (pixel logits `[B, C+1, h, w]`, label logits `[B, C]`)."""

    def __init__(self):
        super().__init__()
        channels, layers = 3, []
        for b, filters in enumerate(BLOCKS, start=1):
            d = 2 if b == 5 else 1
            for count in filters:
                layers += [torch.nn.Conv2d(channels, count, 3, padding=d, dilation=d),
                           torch.nn.ReLU(inplace=True)]  # fmt: skip
                channels = count
            layers.append(torch.nn.MaxPool2d(3, stride=2 if b <= 3 else 1, padding=1))
        layers += [
            torch.nn.AvgPool2d(3, stride=1, padding=1),
            torch.nn.Conv2d(512, 1024, 3, padding=12, dilation=12), torch.nn.ReLU(inplace=True),
            torch.nn.Dropout(0.5),
            torch.nn.Conv2d(1024, 1024, 1), torch.nn.ReLU(inplace=True), torch.nn.Dropout(0.5),
        ]  # fmt: skip
        self.trunk = torch.nn.Sequential(*layers)
        self.seg, self.cls = torch.nn.Conv2d(1024, CLASSES + 1, 1), torch.nn.Linear(1024, CLASSES)

    def forward(self, images):
        x = self.trunk(images)
        return self.seg(x).float(), self.cls(x.mean((2, 3))).float()


def loss_of(kind, network, images, tags, mask):
    """The classifier's label loss, or the segmenter's J(f, S) + J(f, Ŝ) + label loss."""
    logits, label_logits = network(images)
    scores = label_logits.softmax(1)
    label = (tags / tags.sum(1, keepdim=True) - scores).square().sum(1).mean()
    if kind == "classifier":
        return label
    with torch.no_grad():
        v = torch.cat([torch.ones_like(scores[:, :1]), scores], dim=1)
        best = (v[..., None, None] * logits.softmax(1)).argmax(1)
        there = torch.cat([torch.ones_like(tags[:, :1]), tags], dim=1)
        tagged = torch.gather(there, 1, best.flatten(1)).view_as(best) > 0
        online = torch.where(tagged, best, VOID)
    for labels in (mask, online):
        each = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="none").sum((1, 2))
        label = label + (each / (labels != VOID).sum((1, 2)).clamp(min=1)).mean()
    return label


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kind", default="segmenter", choices=["classifier", "segmenter"])
    parser.add_argument("--size", type=int, default=321)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(0)
    network = LargeFOV().to(device, memory_format=torch.channels_last)
    solver = torch.optim.SGD(network.parameters(), lr=1e-5, momentum=0.9, weight_decay=5e-4,
                             fused=True)  # fmt: skip
    shape = arguments.batch, 3, arguments.size, arguments.size
    images = torch.rand(shape).to(device, memory_format=torch.channels_last) * 255 - 120
    tags = torch.eye(CLASSES)[torch.arange(arguments.batch) % CLASSES].to(device)
    cells = (arguments.size + 7) // 8
    mask = torch.randint(0, CLASSES + 1, (arguments.batch, cells, cells)).to(device)

    def steps(count):
        start = time.perf_counter()
        for _ in range(count):
            half = arguments.precision == "bfloat16"
            cast = torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext()
            with cast:
                loss = loss_of(arguments.kind, network, images, tags, mask)
            solver.zero_grad(set_to_none=True)
            loss.backward()
            solver.step()
        loss.item()  # waits for the device
        return time.perf_counter() - start

    steps(2)
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        print(steps(int(line)), flush=True)


if __name__ == "__main__":
    main()
