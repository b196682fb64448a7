#pragma once

#include "cuda/queue.hpp"
#include "plait/exec/kernel.hpp"

namespace plait::cuda {

/// Every op that a GPU has kernels for; the others are expanded by their definitions.
KernelTable rows();

[[noreturn]] void unsupported(KernelCall const& call, DType dtype);

// By family, in rows/NAME.cpp: what a call of an op puts on call.queue.

// elementwise.cpp
void unary(KernelCall const& call);
void unary_gradient(KernelCall const& call);
void affine(KernelCall const& call);
void binary(KernelCall const& call);
void cast(KernelCall const& call);
void select(KernelCall const& call);
void full(KernelCall const& call);
void iota(KernelCall const& call);
void swiglu(KernelCall const& call);
void swiglu_gradient(KernelCall const& call);
void dropout(KernelCall const& call);
void stochastic_round(KernelCall const& call);
void expand(KernelCall const& call);

// reduce.cpp
void reduce(KernelCall const& call);
std::int64_t reduce_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
void softmax(KernelCall const& call);
void softmax_gradient(KernelCall const& call);

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
void transpose(KernelCall const& call);
void slice(KernelCall const& call);
void pad(KernelCall const& call);
void concat(KernelCall const& call);
void commit(KernelCall const& call);

// micro.cpp
void micro_take(KernelCall const& call);
void micro_stack(KernelCall const& call);
void micro_sum(KernelCall const& call);
void micro_tree(KernelCall const& call);
void part(KernelCall const& call);
void join(KernelCall const& call);
void leaf_tree(KernelCall const& call);
void fold(KernelCall const& call);

// matmul.cpp
void product(KernelCall const& call);
void product_many(std::span<KernelCall const> calls);
std::int64_t product_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
void linear(KernelCall const& call);
void linear_many(std::span<KernelCall const> calls);
std::int64_t linear_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
void product_gelu_gradient(KernelCall const& call);
void product_gelu_gradient_many(std::span<KernelCall const> calls);
std::int64_t product_gelu_gradient_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
void linear_gradient(KernelCall const& call);
void linear_gradient_many(std::span<KernelCall const> calls);
std::int64_t linear_gradient_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers);
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
