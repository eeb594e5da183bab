"""What the prior of a latent encoder knows: how much its tokens differ between patches and between blurs of one patch, and how well a
linear map finds the motion in them.

    pip install numpy pillow safetensors
    hi-diff convert RUN weights.safetensors
    python benches/prior_probe.py weights.safetensors PHOTOGRAPHS [net_le | net_le_dm]

Two patches of 128×128 of each photograph, blurred by straight motions of 4, 9 and 15 pixels in four directions. For variant `gelu` of the encoder.
"""

import sys
from math import erf
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

PATCH, MARGIN = 128, 32
MOTIONS = [(length, angle) for length in (4, 9, 15) for angle in np.pi / 4 * np.arange(4)]


class Encoder:
    """LE or LE_DM, of images `[batch, channels, height, width]`."""

    def __init__(self, weights, prefix):
        start = prefix + "."
        self.weights = {name[len(start) :]: value.astype(np.float64) for name, value in weights.items() if name.startswith(start)}
        self.sees_sharp = self.weights["conv1.0.weight"].shape[1] == 2 * 3 * 16

    def conv(self, x, name):
        weight, bias = self.weights[name + ".weight"], self.weights[name + ".bias"]
        batch, channels, height, width = x.shape
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        shifts = np.stack([x[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)], 2)
        kernel = weight.reshape(weight.shape[0], channels, 9)
        return np.einsum("ocn,bcnhw->bohw", kernel, shifts, optimize=True) + bias[:, None, None]

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def __call__(self, x):
        x = gelu(self.conv(unshuffle(x), "conv1.0"))
        blocks = sum(name.startswith("blocks.") and name.endswith(".0.weight") for name in self.weights)
        for block in range(blocks):
            x = x + self.conv(gelu(self.conv(x, f"blocks.{block}.0")), f"blocks.{block}.2")
        x = self.conv(x, "conv2")
        batch, channels, height, width = x.shape
        x = x.reshape(batch, channels, 4, height // 4, 4, width // 4).mean((3, 5)).reshape(batch, channels, 16).transpose(0, 2, 1)
        tokens = self.norm(x, "mlp.norm1").transpose(0, 2, 1)
        tokens = self.linear(gelu(self.linear(tokens, "mlp.patch_mixer.0")), "mlp.patch_mixer.2")
        x = x + tokens.transpose(0, 2, 1)
        hidden = gelu(self.linear(self.norm(x, "mlp.norm2"), "mlp.channel_mixer.0"))
        x = x + self.linear(hidden, "mlp.channel_mixer.2")
        return gelu(self.linear(x, "end.0"))


# The error function by its table, within 1e-8.
STEPS = np.linspace(-6, 6, 120_001)
ERF = np.array([erf(step) for step in STEPS])


def gelu(x):
    return 0.5 * x * (1 + np.interp(x / np.sqrt(2), STEPS, ERF))


def unshuffle(x, factor=4):
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // factor, factor, width // factor, factor)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(batch, channels * factor**2, height // factor, width // factor)


def motion(length, angle, side):
    """The transfer function of a straight motion about its middle."""
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    return np.sinc(length * (x * np.cos(angle) + y * np.sin(angle)))


def patches(folder):
    side = PATCH + 2 * MARGIN
    for path in sorted(Path(folder).iterdir()):
        image = np.asarray(Image.open(path).convert("RGB")).astype(np.float64) / 255
        height, width = image.shape[:2]
        if min(height, width) < side:
            continue
        for share in (0.1, 0.9):
            top, left = int(share * (height - side)), int(share * (width - side))
            yield image[top : top + side, left : left + side]


def main():
    encoder = Encoder(load_file(sys.argv[1]), sys.argv[3] if len(sys.argv) > 3 else "net_le")
    inside = slice(MARGIN, MARGIN + PATCH)
    tokens = []
    for sharp in patches(sys.argv[2]):
        spectrum = np.fft.fft2(sharp, axes=(0, 1))
        blurred = [np.fft.ifft2(spectrum * motion(*m, len(sharp))[..., None], axes=(0, 1)).real for m in MOTIONS]
        images = [np.concatenate([b, sharp] if encoder.sees_sharp else [b], 2)[inside, inside] for b in blurred]
        tokens.append(encoder(np.stack(images).transpose(0, 3, 1, 2)))
    tokens = np.stack(tokens)  # [patch, motion, 16, channels]
    count = len(tokens)

    mean = tokens.mean((0, 1))
    of_patches = tokens.mean(1)
    everything = ((tokens - mean) ** 2).sum((2, 3)).mean()
    between_patches = ((of_patches - mean) ** 2).sum((1, 2)).mean()
    print(f"of the tokens' variance {between_patches / everything:.1%} are between {count} patches, "
          f"{1 - between_patches / everything:.2%} between the blurs of one patch")

    # Ridge regression from the mean token and its squares, fitted to seven tenths of the patches.
    features = tokens.mean(2)
    features = np.concatenate([features, features**2], 2).reshape(count * len(MOTIONS), -1)
    features = (features - features.mean(0)) / (features.std(0) + 1e-9)
    features = np.c_[features, np.ones(len(features))]
    sought = np.array([(l * np.cos(2 * a), l * np.sin(2 * a), l) for l, a in MOTIONS] * count)
    fitted = np.repeat(np.arange(count), len(MOTIONS)) < 0.7 * count

    def explained(ridge):
        square = features[fitted].T @ features[fitted] + ridge * np.eye(features.shape[1])
        found = features[~fitted] @ np.linalg.solve(square, features[fitted].T @ sought[fitted])
        spread = sought[~fitted] - sought[fitted].mean(0)
        return 1 - ((found - sought[~fitted]) ** 2).mean(0) / (spread**2).mean(0)

    best = max((explained(ridge) for ridge in (0.01, 1, 10, 100)), key=np.mean)
    print("R² of length times cosine and sine of twice the angle, and of the length: " + ", ".join(f"{r:.2f}" for r in best))


main()
