#pragma once

#include "cuda/queue.hpp"
#include "plait/exec/kernel.hpp"

namespace plait::cuda {

/// Every op that a GPU has kernels for; the others are expanded by their definitions.
KernelTable rows();

[[noreturn]] void unsupported(KernelCall const& call, DType dtype);

// By family, in rows/NAME.cpp: what a call of an op puts on call.queue.

// view.cpp
void reshape(KernelCall const& call);

// matmul.cpp
void product(KernelCall const& call);
std::int64_t product_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
void linear(KernelCall const& call);
std::int64_t linear_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
void matmul(KernelCall const& call);
std::int64_t matmul_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);

// attention.cpp
void attention(KernelCall const& call);
std::int64_t attention_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
void attention_gradient(KernelCall const& call);
std::int64_t attention_gradient_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);

// cache.cpp
void cache_write(KernelCall const& call);
void cached_attention(KernelCall const& call);

// linear_loss.cpp
void linear_cross_entropy(KernelCall const& call);
std::int64_t linear_cross_entropy_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
void linear_cross_entropy_gradient(KernelCall const& call);
std::int64_t linear_cross_entropy_gradient_workspace(AnyOp const& op, Metas const& in, Metas const& out,
                                                     int workers);
void linear_cross_entropy_step(KernelCall const& call);
std::int64_t linear_cross_entropy_step_workspace(AnyOp const& op, Metas const& in, Metas const& out,
                                                 int workers);
void linear_loss_blocks(KernelCall const& call);
std::int64_t linear_loss_blocks_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);

}  // namespace plait::cuda
