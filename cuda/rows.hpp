#pragma once

#include "cuda/queue.hpp"
#include "plait/exec/kernel.hpp"

namespace plait::cuda {

/// Every op that a GPU has kernels for; the others are expanded by their definitions.
KernelTable rows();

[[noreturn]] void unsupported(KernelCall const& call, DType dtype);

// By family, in rows/NAME.cpp: what a call of an op puts on call.queue.

// norm.cpp
void layer_norm(KernelCall const& call);
void layer_norm_gradient(KernelCall const& call);
void rms_norm(KernelCall const& call);
void rms_norm_gradient(KernelCall const& call);
std::int64_t norm_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
std::int64_t layer_norm_gradient_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
std::int64_t rms_norm_gradient_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);

// rope.cpp
void rope_table(KernelCall const& call);
void rope_at(KernelCall const& call);
void rope(KernelCall const& call);

// tokens.cpp
void embedding(KernelCall const& call);
void embedding_gradient(KernelCall const& call);
std::int64_t embedding_gradient_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
void cross_entropy(KernelCall const& call);
void cross_entropy_gradient(KernelCall const& call);
void pick(KernelCall const& call);

// update.cpp
void adamw(KernelCall const& call);
void adamw_many(std::span<KernelCall const> calls);
void max_absolute(KernelCall const& call);
void max_absolute_many(std::span<KernelCall const> calls);
void squares(KernelCall const& call);
void squares_many(std::span<KernelCall const> calls);
void norm_of_squares(KernelCall const& call);

// view.cpp
void reshape(KernelCall const& call);

}  // namespace plait::cuda
