"""What a person would try instead: unsharp masking, and Richardson and Lucy's deconvolution by one fixed kernel.

    pip install numpy pillow
    python benches/classical.py PAIRS OUT      # PAIRS/input and PAIRS/target, or PAIRS/blur and PAIRS/sharp
    hi-diff metrics OUT/unsharp PAIRS/target --protocol basicsr

Radius and strength, kernel and iterations are those with the best mean PSNR of every fourth pair of the set itself, which no
photograph of one's own would tell. OUT/unsharp and OUT/lucy hold what they make of all pairs.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def load(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(np.float64) / 255


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rounded(image)).save(path)


def rounded(image):
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def psnr(image, sharp):
    error = rounded(image).astype(np.float64) - rounded(sharp)
    return 10 * np.log10(255**2 / max(np.mean(error**2), 1e-10))


def gaussian(sigma, shape):
    """The transfer function of a Gaussian of this width."""
    y, x = (np.fft.fftfreq(side) for side in shape)
    y, x = y[:, None], x[None, : shape[1] // 2 + 1]
    return np.exp(-2 * (np.pi * sigma) ** 2 * (x**2 + y**2))


def disc(radius, shape):
    """That of a disc, as of a lens out of focus or a shake in all directions."""
    y, x = (np.minimum(np.arange(side), side - np.arange(side)) for side in shape)
    kernel = np.clip(radius + 0.5 - np.hypot(y[:, None], x[None, :]), 0, 1)
    return np.fft.rfft2(kernel / kernel.sum()).real


def filtered(image, transfer):
    spectrum = np.fft.rfft2(image, axes=(0, 1)) * transfer[..., None]
    return np.fft.irfft2(spectrum, image.shape[:2], axes=(0, 1))


def padded(work, image, margin=32):
    """`work` on the picture with mirrored borders."""
    size = [(margin, margin + side % 2) for side in image.shape[:2]] + [(0, 0)]
    result = work(np.pad(image, size, mode="reflect"))
    return result[margin : margin + image.shape[0], margin : margin + image.shape[1]]


def unsharp(image, sigma, amount):
    def work(image):
        return image + amount * (image - filtered(image, gaussian(sigma, image.shape[:2])))

    return padded(work, image)


def lucy(image, kernel, size, iterations):
    def work(image):
        transfer = kernel(size, image.shape[:2])
        image = np.maximum(image, 1e-3)
        guess = image
        # Both kernels are symmetric: their transpose is themselves.
        for _ in range(iterations):
            seen = np.maximum(filtered(guess, transfer), 1e-3)
            guess = guess * filtered(image / seen, transfer)
        return guess

    return padded(work, image)


METHODS = {
    "unsharp": (unsharp, list(itertools.product([1, 2, 3, 5, 8], [0.2, 0.4, 0.7, 1.0, 1.5]))),
    "lucy": (lucy, list(itertools.product([gaussian, disc], [1.0, 1.5, 2.5, 4.0], [3, 8, 20]))),
}


def main(folder, out):
    blurred = next(folder / name for name in ("input", "blur") if (folder / name).is_dir())
    sharp = next(folder / name for name in ("target", "sharp") if (folder / name).is_dir())
    names = sorted(path.name for path in blurred.iterdir())
    pairs = {name: (load(blurred / name), load(sharp / name)) for name in names}
    before = {name: psnr(*pair) for name, pair in pairs.items()}
    finite = [name for name in names if before[name] < 90]
    for label, (method, settings) in METHODS.items():
        few = finite[::4]
        gains = [
            np.mean([psnr(method(pairs[name][0], *setting), pairs[name][1]) - before[name] for name in few])
            for setting in settings
        ]
        best = settings[int(np.argmax(gains))]
        after = {}
        for name in names:
            result = method(pairs[name][0], *best)
            save(result, out / label / Path(name).with_suffix(".png"))
            after[name] = psnr(result, pairs[name][1])
        gains = np.array([after[name] - before[name] for name in finite])
        said = ", ".join(getattr(value, "__name__", str(value)) for value in best)
        print(
            f"{label} ({said}): {gains.mean():+.2f} dB of {len(finite)}, from {gains.min():+.2f} to {gains.max():+.2f}, "
            f"{(gains < 0).sum()} worse"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
