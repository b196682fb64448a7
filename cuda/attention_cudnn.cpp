// The one unit that sees cudnn-frontend, which takes a minute to compile.

#include "cuda/attention_cudnn.hpp"

#include "plait/core/check.hpp"

#include <cudnn_frontend.h>

#include <cmath>
#include <cstdio>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace plait::cuda {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

namespace {

enum Uid : std::int64_t { q, k, v, out, lse, dout, dq, dk, dv };

/// [batch, length, heads, dim], dense, in the order in which cuDNN names dims.
fe::graph::Tensor_attributes dense(Uid uid, std::int64_t batch, std::int64_t length, std::int64_t heads,
                                   std::int64_t dim) {
    return fe::graph::Tensor_attributes()
        .set_uid(uid)
        .set_dim({batch, heads, length, dim})
        .set_stride({length * heads * dim, dim, heads * dim, 1});
}

void is_output(Tensor const& tensor, fe::graph::Tensor_attributes const& like) {
    tensor->set_output(true).set_uid(like.get_uid()).set_dim(like.get_dim()).set_stride(like.get_stride());
}

template <class Options>
Options options_of(AttentionCall const& call, char const* name) {
    Options options;
    options.set_name(name).set_attn_scale(1.0f / std::sqrt(static_cast<float>(call.dim)));
    if (call.causal)
        options.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
    return options;
}

auto graph_of(AttentionCall const& c) {
    auto graph = std::make_shared<fe::graph::Graph>();
    graph->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    auto like_q = [&](Uid uid) { return dense(uid, c.batch, c.length, c.heads, c.dim); };
    auto like_k = [&](Uid uid) { return dense(uid, c.batch, c.keys, c.kv_heads, c.dim); };
    // cuDNN's statistics are max + log(sum of exponentials), the natural logarithm.
    auto logs = fe::graph::Tensor_attributes()
                    .set_uid(lse)
                    .set_dim({c.batch, c.heads, c.length, 1})
                    .set_stride({c.heads * c.length, c.length, 1, 1})
                    .set_data_type(fe::DataType_t::FLOAT);
    auto tq = graph->tensor(like_q(q)), tk = graph->tensor(like_k(k)), tv = graph->tensor(like_k(v));
    if (c.dq == nullptr) {
        auto options = options_of<fe::graph::SDPA_attributes>(c, "attention").set_generate_stats(true);
        auto [o, statistics] = graph->sdpa(tq, tk, tv, options);
        is_output(o, like_q(out));
        is_output(statistics, logs);
        statistics->set_data_type(fe::DataType_t::FLOAT);
    } else {
        auto options = options_of<fe::graph::SDPA_backward_attributes>(c, "attention_gradient");
        options.set_deterministic_algorithm(true);
        auto [gq, gk, gv] = graph->sdpa_backward(tq, tk, tv, graph->tensor(like_q(out)),
                                                 graph->tensor(like_q(dout)), graph->tensor(logs), options);
        is_output(gq, like_q(dq));
        is_output(gk, like_k(dk));
        is_output(gv, like_k(dv));
    }
    return graph;
}

void check_cudnn(cudnnStatus_t status, char const* what) {
    check(status == CUDNN_STATUS_SUCCESS, "cuDNN: {}: {}", what, cudnnGetErrorString(status));
}

}  // namespace

struct CudnnAttention::Plan {
    std::shared_ptr<fe::graph::Graph> graph;  // null where cuDNN does not take the shape
    std::int64_t workspace_bytes = 0;
    bool told = false;

    /// Says once that own kernels serve, many times slower, and why.
    void refused(AttentionCall const& c, std::string_view why) {
        if (std::exchange(told, true)) return;
        fmt::print(stderr, "plait: cuDNN does not take attention{}[{}, {}, {}, {}], own kernels do: {}\n",
                   c.dq ? "'s gradient " : " ", c.batch, c.length, c.heads, c.dim, why);
    }
};

struct CudnnAttention::Library {
    using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                           bool, bool>;
    cudnnHandle_t handle = nullptr;
    std::map<Key, Plan> plans;
};

CudnnAttention::CudnnAttention() = default;

CudnnAttention::~CudnnAttention() {
    if (!library_) return;
    library_->plans.clear();
    if (library_->handle) cudnnDestroy(library_->handle);
}

void CudnnAttention::abandon() { static_cast<void>(library_.release()); }

CudnnAttention::Plan& CudnnAttention::plan_for(AttentionCall const& call, bool recording) {
    if (!library_) library_ = std::make_unique<Library>();
    Library::Key key{call.batch, call.heads, call.kv_heads, call.length,
                     call.keys,  call.dim,   call.causal,   call.dq != nullptr};
    if (auto known = library_->plans.find(key); known != library_->plans.end()) return known->second;
    check(!recording, "attention[{}, {}, {}, {}]: new while a step is recorded: run every op once before",
          call.batch, call.length, call.heads, call.dim);
    if (!library_->handle) check_cudnn(cudnnCreate(&library_->handle), "no handle");
    Plan plan;
    // Before 9.26 its gradient without a mask is not finite on Hopper for some numbers of keys, and for one
    // query.
    if (call.dq && !call.causal &&
        (call.length == 1 || (call.keys % 128 == 64 && cudnnGetVersion() < 92600))) {
        plan.refused(call, "its gradient without a mask is not always finite");
        return library_->plans.emplace(key, std::move(plan)).first->second;
    }
    try {
        plan.graph = graph_of(call);
        auto error = plan.graph->build(library_->handle, {fe::HeurMode_t::A});
        if (error.is_good()) error = plan.graph->get_workspace_size(plan.workspace_bytes);
        if (error.is_bad()) {
            plan.refused(call, error.get_message());
            plan.graph = nullptr;
        }
    } catch (std::exception const& e) {  // some of what it does not know it throws
        plan.refused(call, e.what());
        plan.graph = nullptr;
    }
    return library_->plans.emplace(key, std::move(plan)).first->second;
}

bool CudnnAttention::attend(AttentionCall const& call, cudaStream_t stream, bool recording) {
    if (call.dtype != bf16 || (call.dim != 64 && call.dim != 128)) return false;
    if (call.batch < 1 || call.length < 1 || call.keys < 1 || call.heads % call.kv_heads != 0) return false;
    for (std::byte const* p : {call.q, call.k, call.v, static_cast<std::byte const*>(call.out), call.dout,
                               static_cast<std::byte const*>(call.dq), static_cast<std::byte const*>(call.dk),
                               static_cast<std::byte const*>(call.dv)})
        if (reinterpret_cast<std::uintptr_t>(p) % 16 != 0) return false;

    AlignedWorkspace workspace(call.workspace, call.workspace_bytes);
    auto& plan = plan_for(call, recording);
    if (plan.graph && plan.workspace_bytes > workspace.bytes) {
        plan.refused(call, fmt::format("it wants {} bytes of workspace, here are {}", plan.workspace_bytes,
                                       workspace.bytes));
        return false;
    }
    if (!plan.graph) return false;
    std::unordered_map<std::int64_t, void*> tensors{
        {q, const_cast<std::byte*>(call.q)},
        {k, const_cast<std::byte*>(call.k)},
        {v, const_cast<std::byte*>(call.v)},
        {out, call.out},
        {lse, call.lse},
    };
    if (call.dq) {
        tensors[dout] = const_cast<std::byte*>(call.dout);
        tensors[dq] = call.dq;
        tensors[dk] = call.dk;
        tensors[dv] = call.dv;
    }
    check_cudnn(cudnnSetStream(library_->handle, stream), "no stream");
    auto error = plan.graph->execute(library_->handle, tensors, workspace.data);
    check(error.is_good(), "attention[{}, {}, {}, {}]: cuDNN: {}", call.batch, call.length, call.heads,
          call.dim, error.get_message());
    return true;
}

}  // namespace plait::cuda
