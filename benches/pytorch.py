"""HI-Diff's networks of stage one in PyTorch, layer by layer, with random weights: what `--bench gpu` is compared with.

python3 benches/pytorch.py [inference] [training]
"""

import sys
import time

import torch
from torch import nn
import torch.nn.functional as F


class Norm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Modulated(nn.Module):
    """x · Linear(z₃) + Linear(z₃), where there is a prior."""

    def __init__(self, channels, prior):
        super().__init__()
        self.map = nn.Linear(prior, 2 * channels) if prior else None

    def forward(self, x, z):
        if self.map is None:
            return x
        scale, shift = self.map(z)[:, :, None, None].chunk(2, 1)
        return x * scale + shift


class Mdta(nn.Module):
    def __init__(self, channels, heads, prior):
        super().__init__()
        self.heads = heads
        self.modulated = Modulated(channels, prior)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.depthwise = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x, z):
        n, c, h, w = x.shape
        qkv = self.depthwise(self.qkv(self.modulated(x, z)))
        q, k, v = qkv.view(n, 3, self.heads, c // self.heads, h * w).unbind(1)
        logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        return self.project((logits.softmax(-1) @ v).reshape(n, c, h, w))


class Gdfn(nn.Module):
    def __init__(self, channels, expansion, prior):
        super().__init__()
        hidden = int(channels * expansion)
        self.modulated = Modulated(channels, prior)
        self.expand = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x, z):
        a, b = self.depthwise(self.expand(self.modulated(x, z))).chunk(2, 1)
        return self.project(F.gelu(a) * b)


class Block(nn.Module):
    def __init__(self, channels, heads, expansion, prior):
        super().__init__()
        self.norm1, self.norm2 = Norm(channels), Norm(channels)
        self.attention, self.feed_forward = Mdta(channels, heads, prior), Gdfn(channels, expansion, prior)

    def forward(self, x, z):
        x = x + self.attention(self.norm1(x), z)
        return x + self.feed_forward(self.norm2(x), z)


class Him(nn.Module):
    def __init__(self, channels, heads, prior):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(prior)
        self.q = nn.Linear(channels, channels, bias=False)
        self.kv = nn.Linear(prior, 2 * channels, bias=False)
        self.project = nn.Linear(channels, channels)

    def forward(self, x, z):
        n, c, h, w = x.shape
        q = self.q(self.norm1(x.flatten(2).transpose(1, 2))).view(n, h * w, self.heads, -1).transpose(1, 2)
        k, v = self.kv(self.norm2(z)).view(n, z.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = ((q @ k.transpose(-2, -1)) * (c // self.heads) ** -0.5).softmax(-1) @ v
        return x + self.project(attended.transpose(1, 2).reshape(n, h * w, c)).transpose(1, 2).view(n, c, h, w)


class Level(nn.Module):
    def __init__(self, channels, heads, blocks, expansion, prior, latent):
        super().__init__()
        self.him = Him(channels, heads, prior) if prior and not latent else None
        modulation = prior if latent else 0
        self.blocks = nn.ModuleList(Block(channels, heads, expansion, modulation) for _ in range(blocks))

    def forward(self, x, tokens=None, z=None):
        if self.him is not None:
            x = self.him(x, tokens)
        for block in self.blocks:
            x = block(x, z)
        return x


class Mixer(nn.Module):
    def __init__(self, tokens, channels, token_expansion, channel_expansion):
        super().__init__()
        def mlp(size, factor):
            hidden = int(size * factor)
            return nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, size))
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.tokens, self.channels = mlp(tokens, token_expansion), mlp(channels, channel_expansion)

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class LatentEncoder(nn.Module):
    def __init__(self, embed, channels=6, blocks=6):
        super().__init__()
        def conv(a, b):
            return nn.Conv2d(a, b, 3, padding=1)
        self.first = conv(16 * channels, embed)
        self.blocks = nn.ModuleList(nn.Sequential(conv(embed, embed), nn.GELU(), conv(embed, embed)) for _ in range(blocks))
        self.head = conv(embed, embed)
        self.mixer = Mixer(16, embed, 0.5, 4)
        self.project = nn.Linear(embed, 4 * embed)

    def forward(self, x):
        x = F.gelu(self.first(F.pixel_unshuffle(x, 4)))
        for block in self.blocks:
            x = x + block(x)
        tokens = F.adaptive_avg_pool2d(self.head(x), 4).flatten(2).transpose(1, 2)
        return F.gelu(self.project(self.mixer(tokens)))


class HiDiff(nn.Module):
    """Transformer, and LE where there is a prior."""

    def __init__(self, dim, blocks, refinement, expansion, prior):
        super().__init__()
        def level(channels, at, count):
            return Level(channels, 2**at, count, expansion, prior, at == 3)
        def conv3(a, b):
            return nn.Conv2d(a, b, 3, padding=1, bias=False)
        d = dim
        self.encoder = LatentEncoder(prior // 4) if prior else None
        self.coarse = nn.Linear(16, 4) if prior else None
        self.embed = conv3(3, d)
        self.down = nn.ModuleList(conv3(d << i, (d << i) // 2) for i in range(3))
        self.up = nn.ModuleList(conv3(d << i, d << (i + 1)) for i in (3, 2, 1))
        self.reduce = nn.ModuleList(nn.Conv2d(d << i, d << (i - 1), 1, bias=False) for i in (3, 2))
        self.encode = nn.ModuleList(level(d << i, i, blocks[i]) for i in range(4))
        self.decode3, self.decode2 = level(4 * d, 2, blocks[2]), level(2 * d, 1, blocks[1])
        self.decode1, self.refine = level(2 * d, 0, blocks[0]), level(2 * d, 0, refinement)
        self.output = conv3(2 * d, 3)

    def forward(self, blur, sharp):
        z1 = z2 = z3 = None
        if self.encoder is not None:
            z1 = self.encoder(torch.cat([blur, sharp], 1))
            z2 = self.coarse(z1.transpose(1, 2)).transpose(1, 2)
            z3 = z2.mean(1)
        x, skips = self.embed(blur), []
        for at, level in enumerate(self.encode):
            x = level(x, z1 if at == 0 else z2, z3)
            if at < 3:
                skips.append(x)
                x = F.pixel_unshuffle(self.down[at](x), 2)
        for at, level in enumerate([self.decode3, self.decode2]):
            x = torch.cat([F.pixel_shuffle(self.up[at](x), 2), skips.pop()], 1)
            x = level(self.reduce[at](x), z2)
        x = torch.cat([F.pixel_shuffle(self.up[2](x), 2), skips.pop()], 1)
        return self.output(self.refine(self.decode1(x, z1), z1)) + blur


PRESETS = {"gopro": (48, (3, 5, 6, 6), 4, 2.66, 256), "small": (16, (1, 1, 2, 6), 0, 2.0, 0)}


def median(run):
    for _ in range(4):
        run()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[6]


def main():
    wanted = sys.argv[1:] or ["inference", "training"]
    device = "cuda"
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}")
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        print("with TF32" if tf32 else "without TF32")
        if "inference" in wanted:
            for preset, height, width in [(p, *s) for p in PRESETS for s in ((256, 256), (720, 1280))]:
                model = HiDiff(*PRESETS[preset]).to(device).eval()
                blur = torch.rand(1, 3, height, width, device=device)
                with torch.no_grad():
                    print(f"| {preset} | {width}×{height} | {1e3 * median(lambda: model(blur, blur)):.1f} ms |", flush=True)
        if "training" in wanted:
            for preset, patch, batch in [("gopro", 128, 1), ("gopro", 128, 8), ("small", 96, 8), ("small", 96, 64), ("small", 160, 32)]:
                model = HiDiff(*PRESETS[preset]).to(device)
                optimizer = torch.optim.AdamW(model.parameters(), 2e-4, (0.9, 0.999))
                blur, sharp = torch.rand(2, batch, 3, patch, patch, device=device)

                def step():
                    optimizer.zero_grad(set_to_none=True)
                    F.l1_loss(model(blur, sharp), sharp).backward()
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
                    optimizer.step()

                seconds = median(step)
                print(f"| {preset} | {patch} | {batch} | {1e3 * seconds:.1f} ms | {batch / seconds:.0f} images/s |", flush=True)


if __name__ == "__main__":
    main()
