"""Makes the golden files beside it with PyTorch: python3 make.py (about ten seconds; the bytes do not change).

Each file holds a model's or a block's weights under Plait's parameter names, inputs, loss, gradients and, for models,
the weights after five AdamW steps with clipping; a curve holds the losses of 200 steps and no more. Everything is computed in float64 and rounded to float32 once; the
same in float32 must agree far within the bounds of the test that reads the files; the worst differences are printed.
"""
import json
import math
import pathlib
import struct

import torch
import torch.nn.functional as F

STEPS, BATCH, SEQ = 5, 4, 20
RATE, WARMUP, BETAS, EPS, DECAY, CLIP = 3e-3, 2, (0.9, 0.95), 1e-8, 0.1, 0.5
SIZES = dict(dim=32, layers=2, heads=4, vocab=67, hidden=64, seq=SEQ + 3, norm_eps=1e-5, rope_base=10000.0)
CASES = {  # file: family, key and value heads, tied, only a block
    "gpt2_tied": ("gpt2", 4, True, False),
    "gpt2_untied": ("gpt2", 4, False, False),
    "llama_tied": ("llama", 2, True, False),
    "llama_untied": ("llama", 1, False, False),
    "gpt2_block": ("gpt2", 4, True, True),
    "llama_block": ("llama", 2, True, True),
    "gpt2_curve": ("gpt2", 4, True, False),
    "llama_curve": ("llama", 2, False, False),
}
CURVE_STEPS = 200


def rate(step, steps):  # counted from 1: linear warm-up, then half a cosine to 0
    if step <= WARMUP:
        return RATE * step / WARMUP
    return RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (steps - WARMUP)))


def shapes_of_block(c):
    d, h, kv, gpt = c["dim"], c["hidden"], c["dim"] // c["heads"] * c["kv_heads"], c["family"] == "gpt2"
    linears = {"attention.q": (d, d), "attention.k": (kv, d), "attention.v": (kv, d), "attention.o": (d, d),
               "mlp.up": (h, d), "mlp.down": (d, h)}
    if not gpt:
        linears["mlp.gate"] = (h, d)
    shapes = {n + ".weight": s for n, s in linears.items()} | {n + "_norm.weight": (d,) for n in ("attention", "mlp")}
    if gpt:
        shapes |= {n + ".bias": s[:1] for n, s in linears.items()}
        shapes |= {n + "_norm.bias": (d,) for n in ("attention", "mlp")}
    return shapes


def shapes_of(c):
    if c["block"]:
        return shapes_of_block(c)
    d, gpt = c["dim"], c["family"] == "gpt2"
    shapes = {"tokens.weight": (c["vocab"], d), "norm.weight": (d,)}
    shapes |= {f"blocks.{i}.{n}": s for i in range(c["layers"]) for n, s in shapes_of_block(c).items()}
    if gpt:
        shapes |= {"positions.weight": (c["seq"], d), "norm.bias": (d,)}
    if not c["tied"]:
        shapes["head.weight"] = (c["vocab"], d)
    return shapes


def random_weights(c, random):
    """Large enough that attention is far from uniform and biases and gains matter."""
    weights = {}
    for name, shape in sorted(shapes_of(c).items()):
        x = torch.randn(shape, generator=random)
        if name.startswith(("tokens", "positions")):
            weights[name] = 0.3 * x
        elif len(shape) == 2:
            weights[name] = x * shape[1] ** -0.5
        else:
            weights[name] = 0.1 * x + name.endswith("norm.weight")
    return weights


def rotate(x, c):  # [batch, heads, seq, head_dim], pairs (i, i + head_dim / 2)
    half = x.shape[-1] // 2
    turns = c["rope_base"] ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * turns
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def norm(w, name, x, c):
    if c["family"] == "gpt2":
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], c["norm_eps"])
    return F.rms_norm(x, x.shape[-1:], w[name + ".weight"], c["norm_eps"])


def block(w, at, x, c):
    gpt = c["family"] == "gpt2"
    linear = lambda n, x: F.linear(x, w[at + n + ".weight"], w.get(at + n + ".bias"))
    split = lambda x: x.unflatten(-1, (-1, c["dim"] // c["heads"])).transpose(1, 2)
    y = norm(w, at + "attention_norm", x, c)
    q, k, v = (split(linear("attention." + n, y)) for n in "qkv")
    if not gpt:
        q, k = rotate(q, c), rotate(k, c)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    x = x + linear("attention.o", y.transpose(1, 2).flatten(2))
    y = norm(w, at + "mlp_norm", x, c)
    up = linear("mlp.up", y)
    up = F.gelu(up, approximate="tanh") if gpt else F.silu(linear("mlp.gate", y)) * up
    return x + linear("mlp.down", up)


def model_loss(w, tokens, targets, c):
    x = w["tokens.weight"][tokens]
    if c["family"] == "gpt2":
        x = x + w["positions.weight"][: x.shape[1]]
    for i in range(c["layers"]):
        x = block(w, f"blocks.{i}.", x, c)
    x = norm(w, "norm", x, c)
    logits = F.linear(x, w["tokens.weight" if c["tied"] else "head.weight"])
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), ignore_index=-1)


def decays(name):
    return name.endswith(".weight") and not name.split(".")[-2].endswith("norm")


def compute(c, start, inputs, dtype):
    """Everything that the file holds besides weights and inputs, in `dtype`."""
    w = {n: x.to(dtype, copy=True).requires_grad_() for n, x in start.items()}
    out = {}
    if c["block"]:
        x = inputs["x"].to(dtype, copy=True).requires_grad_()
        y = block(w, "", x, c)
        loss = (y * inputs["dy"].to(dtype)).sum()
        loss.backward()
        out |= {"y": y.detach(), "gradient.x": x.grad}
    else:
        groups = [{"params": [w[n] for n in w if decays(n) == on], "weight_decay": DECAY * on} for on in (1, 0)]
        adam = torch.optim.AdamW(groups, betas=BETAS, eps=EPS)
        losses, norms = [], []
        steps = len(inputs["tokens"])
        for step in range(steps):
            loss = model_loss(w, inputs["tokens"][step], inputs["targets"][step], c)
            adam.zero_grad()
            loss.backward()
            if step == 0 and steps == STEPS:
                out |= {"gradient." + n: x.grad.clone() for n, x in w.items()}
            losses.append(loss.detach())
            norms.append(torch.nn.utils.clip_grad_norm_(w.values(), CLIP).detach())
            for group in adam.param_groups:
                group["lr"] = rate(step + 1, steps)
            adam.step()
        if steps == STEPS:
            out |= {"after." + n: x.detach() for n, x in w.items()}
        out |= {"losses": torch.stack(losses), "norms": torch.stack(norms)}
        return out
    out |= {"losses": loss.detach()[None]} | {"gradient." + n: x.grad for n, x in w.items()}
    return out


def save(path, tensors, metadata):
    """By hand, as the safetensors package writes metadata in an order that changes from run to run."""
    header, data = {"__metadata__": metadata}, b""
    for name, x in sorted(tensors.items()):
        bytes_ = x.contiguous().numpy().tobytes()
        dtype = {torch.float32: "F32", torch.int32: "I32"}[x.dtype]
        header[name] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def make(file, case, number):
    family, kv, tied, only_block = case
    c = SIZES | dict(family=family, kv_heads=kv, tied=tied, block=only_block)
    random = torch.Generator().manual_seed(number)
    start = random_weights(c, random)
    if only_block:
        inputs = {n: torch.randn((BATCH, SEQ, c["dim"]), generator=random) for n in ("x", "dy")}
    else:
        steps = CURVE_STEPS if file.endswith("_curve") else STEPS
        tokens = torch.randint(0, c["vocab"], (steps, BATCH, SEQ + 1), generator=random, dtype=torch.int32)
        if steps == CURVE_STEPS:  # there is something to learn: most tokens follow from the one before
            for i in range(SEQ):
                follows = torch.rand(tokens.shape[:2], generator=random) < 0.8
                tokens[:, :, i + 1] = torch.where(follows, (7 * tokens[:, :, i] + 3) % c["vocab"], tokens[:, :, i + 1])
        targets = tokens[:, :, 1:].clone()
        # More are ignored in some rows than in others, so that a mean of means would show.
        ignored = torch.rand(targets.shape, generator=random) < torch.tensor([0.0, 0.6, 0.1, 0.3])[:, None]
        targets[ignored] = -1
        inputs = {"tokens": tokens[:, :, :-1].contiguous(), "targets": targets}
    exact, rough = (compute(c, start, inputs, t) for t in (torch.float64, torch.float32))
    worst = {}
    for n, x in exact.items():
        if "attention.k.bias" in n:  # the true gradient is zero: nothing but rounding
            continue
        kind = n.split(".")[0]
        error = (x - rough[n].double()).norm() / x.norm()
        worst[kind] = max(worst.get(kind, 0.0), error.item())
        assert error < (2e-4 if file.endswith("_curve") else 2e-6), (file, n, error.item())
    print(file, {k: f"{e:.1e}" for k, e in worst.items()})
    tensors = {"weight." + n: x for n, x in start.items()} | inputs
    tensors |= {n: x.float() for n, x in exact.items()}
    settings = c | dict(rate=RATE, warmup=WARMUP, steps=len(inputs.get("tokens", [])) or STEPS, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, decay=DECAY,
                        clip=CLIP)
    metadata = {k: json.dumps(v) if not isinstance(v, str) else v for k, v in settings.items()}
    save(pathlib.Path(__file__).parent / f"{file}.safetensors", tensors, metadata)


torch.set_num_threads(1)
for number, (file, case) in enumerate(CASES.items()):
    make(file, case, number)
