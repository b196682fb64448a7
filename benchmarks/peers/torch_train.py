"""Training-step throughput of the same model written in plain PyTorch: the peer that a user would pick instead.

python torch_train.py --model llama-tiny --batch 8 --seq 256 --device cpu --threads 2 --precision f32|amp|bf16 [--compile]
python torch_train.py --model gpt2-124m --batch 64 --seq 1024 --steps 30 [--compile] [--attention cudnn]
Prints one JSON line: tokens/s, model FLOP/s by the 6N + 12LTd rule, peak memory in GiB (of the device, or of the process).
"""
import argparse, json, resource, time
import torch, torch.nn as nn, torch.nn.functional as F

MODELS = {
    # name: layers, hidden, heads, kv_heads, ffn, vocab, style, tied
    "gpt2-124m":  (12, 768, 12, 12, 3072, 50304, "gpt2", True),
    "gpt2-355m":  (24, 1024, 16, 16, 4096, 50304, "gpt2", True),
    "gpt2-774m":  (36, 1280, 20, 20, 5120, 50304, "gpt2", True),
    "gpt2-1558m": (48, 1600, 25, 25, 6400, 50304, "gpt2", True),
    "llama-1b":   (22, 2048, 32, 4, 5632, 32000, "llama", False),
    "qwen-0.5b":  (24, 896, 14, 2, 4864, 151936, "llama", True),
    "llama-tiny": (6, 384, 6, 6, 1024, 4096, "llama", True),
    "gpt2-tiny":  (6, 384, 6, 6, 1536, 4096, "gpt2", True),
}

def rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

class Block(nn.Module):
    def __init__(s, d, h, kv, ffn, style):
        super().__init__()
        s.h, s.kv, s.hd, s.style = h, kv, d // h, style
        bias = style == "gpt2"
        norm = (lambda: nn.LayerNorm(d)) if style == "gpt2" else (lambda: nn.RMSNorm(d, eps=1e-5))
        s.n1, s.n2 = norm(), norm()
        s.qkv = nn.Linear(d, (h + 2 * kv) * s.hd, bias=bias)
        s.o = nn.Linear(d, d, bias=bias)
        s.up = nn.Linear(d, ffn if style == "gpt2" else 2 * ffn, bias=bias)
        s.down = nn.Linear(ffn, d, bias=bias)

    def forward(s, x, cos, sin):
        B, T, d = x.shape
        q, k, v = s.qkv(s.n1(x)).split((s.h * s.hd, s.kv * s.hd, s.kv * s.hd), -1)
        q = q.view(B, T, s.h, s.hd).transpose(1, 2)
        k = k.view(B, T, s.kv, s.hd).transpose(1, 2)
        v = v.view(B, T, s.kv, s.hd).transpose(1, 2)
        if s.style == "llama":
            q, k = rope(q, cos, sin), rope(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=s.h != s.kv)
        x = x + s.o(y.transpose(1, 2).reshape(B, T, d))
        u = s.up(s.n2(x))
        if s.style == "gpt2":
            u = F.gelu(u, approximate="tanh")
        else:
            g, u = u.chunk(2, -1)
            u = F.silu(g) * u
        return x + s.down(u)

class Model(nn.Module):
    def __init__(s, L, d, h, kv, ffn, V, style, tied, T):
        super().__init__()
        s.emb = nn.Embedding(V, d)
        s.pos = nn.Embedding(T, d) if style == "gpt2" else None
        s.blocks = nn.ModuleList(Block(d, h, kv, ffn, style) for _ in range(L))
        s.norm = nn.LayerNorm(d) if style == "gpt2" else nn.RMSNorm(d, eps=1e-5)
        s.head = nn.Linear(d, V, bias=False)
        for p in s.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)
        if tied:
            s.head.weight = s.emb.weight
        hd = d // h
        f = torch.outer(torch.arange(T), 1e4 ** (-torch.arange(0, hd, 2) / hd))
        s.register_buffer("cos", f.cos(), persistent=False)
        s.register_buffer("sin", f.sin(), persistent=False)

    def forward(s, i, t):
        x = s.emb(i)
        if s.pos is not None:
            x = x + s.pos.weight[: i.shape[1]]
        cos, sin = s.cos.to(x.dtype), s.sin.to(x.dtype)
        for b in s.blocks:
            x = b(x, cos, sin)
        return F.cross_entropy(s.head(s.norm(x)).float().flatten(0, 1), t.flatten())

def main():
    a = argparse.ArgumentParser()
    a.add_argument("--model", default="gpt2-124m"); a.add_argument("--batch", type=int, default=32)
    a.add_argument("--seq", type=int, default=1024); a.add_argument("--steps", type=int, default=20)
    a.add_argument("--warmup", type=int, default=6); a.add_argument("--precision", default="amp")
    a.add_argument("--compile", action="store_true"); a.add_argument("--device", default="cuda")
    a.add_argument("--threads", type=int, default=0); a.add_argument("--mode", default="default")
    a.add_argument("--attention", default="auto", choices=["auto", "cudnn", "flash"])
    a = a.parse_args()
    if a.threads: torch.set_num_threads(a.threads)
    torch.manual_seed(0); torch.set_float32_matmul_precision("high")
    L, d, h, kv, ffn, V, style, tied = MODELS[a.model]
    cuda = a.device == "cuda"
    m = Model(L, d, h, kv, ffn, V, style, tied, a.seq).to(a.device)
    if a.precision == "bf16": m = m.bfloat16()
    n = sum(p.numel() for p in m.parameters())
    n_mm = n - (m.pos.weight.numel() if m.pos is not None else 0) - (0 if tied else V * d)
    opt = torch.optim.AdamW(m.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    if a.attention != "auto":
        torch.backends.cuda.enable_flash_sdp(a.attention == "flash")
        torch.backends.cuda.enable_cudnn_sdp(a.attention == "cudnn")
        torch.backends.cuda.enable_mem_efficient_sdp(False); torch.backends.cuda.enable_math_sdp(False)
    f = torch.compile(m, mode=a.mode) if a.compile else m
    def step():
        x = torch.randint(0, V, (a.batch, a.seq + 1), device=a.device)
        with torch.autocast(a.device, torch.bfloat16, enabled=a.precision == "amp"):
            loss = f(x[:, :-1].contiguous(), x[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        opt.step(); opt.zero_grad(set_to_none=True)
        return loss
    sync = torch.cuda.synchronize if cuda else (lambda: None)
    t0 = time.time()
    for _ in range(a.warmup): loss = step()
    sync(); warm = time.time() - t0
    times = []
    for _ in range(a.steps):
        sync(); t = time.perf_counter(); loss = step(); sync(); times.append(time.perf_counter() - t)
    times.sort(); med = times[len(times) // 2]
    tok = a.batch * a.seq / med
    flops = 6 * n_mm + 12 * L * d * a.seq / 2 * 1.0     # causal: half of the T x T score work
    flops_full = 6 * n_mm + 12 * L * d * a.seq
    print(json.dumps(dict(peer=f"torch {torch.__version__}", model=a.model, params=n, batch=a.batch, seq=a.seq,
        precision=a.precision, compile=a.compile, mode=a.mode, attention=a.attention, tok_s=round(tok), ms=round(med * 1e3, 2),
        min_ms=round(times[0] * 1e3, 2), tflops_causal=round(tok * flops / 1e12, 1), tflops_full=round(tok * flops_full / 1e12, 1),
        peak_gib=round(torch.cuda.max_memory_allocated() / 2**30 if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2), warmup_s=round(warm, 1), loss=round(loss.item(), 3))), flush=True)

main()
