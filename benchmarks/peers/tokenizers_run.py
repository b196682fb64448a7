"""FILE VOCABULARY TOKENIZER: the same work as benchmarks/tokenizer.cpp by the library `tokenizers`, on one thread.

Learns a vocabulary of its own, and encodes with TOKENIZER, which Plait wrote, so that both make the same tokens.
"""
import json
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
import tokenizers

file, vocabulary, plait = sys.argv[1:]
data = open(file, "rb").read()
documents = [data[i : i + 20_000].decode(errors="ignore") for i in range(0, len(data), 20_000)]

ours = tokenizers.Tokenizer.from_file(plait)
learned = tokenizers.Tokenizer(tokenizers.models.BPE())
learned.pre_tokenizer = ours.pre_tokenizer
trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=int(vocabulary), show_progress=False, special_tokens=["<|endoftext|>"],
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
start = time.time()
learned.train_from_iterator(documents, trainer)
learning = time.time() - start

# The faster of its ways; the second leaves out where each token stood.
ways = [lambda: sum(len(ours.encode(d).ids) for d in documents)]
if hasattr(ours, "encode_batch_fast"):
    ways.append(lambda: sum(len(e.ids) for e in ours.encode_batch_fast(documents)))
encoding = 1e9
for way in ways * 2:
    start = time.time()
    tokens = way()
    encoding = min(encoding, time.time() - start)
print(json.dumps({"peer": "tokenizers " + tokenizers.__version__, "threads": 1, "megabytes": round(len(data) / 1e6, 1),
                  "learn_s": round(learning, 2), "encode_mb_per_s": round(len(data) / 1e6 / encoding, 1), "tokens": tokens}))
