#pragma once

#include "plait/nn/module.hpp"
#include "plait/ops/cache.hpp"

#include <memory>
#include <string>
#include <vector>

namespace plait::nn {

/// The cache of one attention layer, at one call; empty where there is none.
struct LayerCache {
    std::shared_ptr<Variable> k, v;
    Tensor slots, positions;

    explicit operator bool() const { return k != nullptr; }

    /// Attention of queries [batch, n, heads, dim] to the tokens kept so far and, causally, to their own keys
    /// and values [batch, n, kv_heads, dim], which are kept from now on.
    Tensor attend(Tensor const& q, Tensor const& keys, Tensor const& values) const {
        auto keep = [&](Variable& cache, Tensor const& rows) {
            assign(cache, cache_write(read(cache), rows, slots, positions));
            return read(cache);
        };
        auto ks = keep(*k, keys), vs = keep(*v, values);
        return cached_attention(q, ks, vs, slots, positions);
    }
};

/// The keys and values of tokens that a model has read, so that the next ones need not read them again: for
/// every layer two state variables [slots, length, kv_heads, head_dim]. A slot holds one sequence. An empty
/// one stands for "none".
struct KeyValueCache {
    std::vector<std::shared_ptr<Variable>> k, v;  // one a layer
    Tensor slots;                                 // i32[batch]: where each sequence of the call is kept
    Tensor positions;  // i32[batch, n] of the call's tokens, from 0; negative: none is there

    KeyValueCache() = default;
    /// Fresh variables "cache.k.3", which belong into the state of the programs that use them. The dtype that
    /// these compute in needs no copies.
    KeyValueCache(std::int64_t layers, Shape const& shape, DType dtype) {
        for (std::int64_t i = 0; i < layers; ++i) {
            auto one = [&](char const* name) {
                return make_variable({dtype, shape}, Init::zeros(), VariableKind::other,
                                     "cache." + std::string(name) + "." + std::to_string(i));
            };
            k.push_back(one("k"));
            v.push_back(one("v"));
        }
    }

    explicit operator bool() const { return !k.empty(); }
    std::int64_t length() const { return k.front()->meta.shape[1]; }
    /// The same cache, at a call with these slots and positions.
    KeyValueCache at(Tensor const& slot, Tensor const& position) const {
        auto call = *this;
        call.slots = slot, call.positions = position;
        return call;
    }
    LayerCache layer(std::size_t i) const {
        return k.empty() ? LayerCache{} : LayerCache{k[i], v[i], slots, positions};
    }
    std::vector<std::shared_ptr<Variable>> variables() const {
        auto all = k;
        all.insert(all.end(), v.begin(), v.end());
        return all;
    }
};

}  // namespace plait::nn
