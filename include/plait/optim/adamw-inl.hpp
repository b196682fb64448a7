#pragma once

#include "plait/core/random.hpp"
#include "plait/graph/glob.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/update.hpp"
#include "plait/optim/adamw.hpp"

#include <cstring>
#include <string_view>

namespace plait::optim {
namespace detail {

template <class T>
Tensor scalar_feed(std::string name, std::function<T(StepInfo const&)> value) {
    return feed_input(std::move(name), {dtype_of<T>, {}},
                      [value = std::move(value)](StepInfo const& at, std::byte* to) {
                          T x = value(at);
                          std::memcpy(to, &x, sizeof x);
                      });
}

}  // namespace detail

PLAIT_INLINE bool AdamW::decays_at(std::string const& path) const {
    bool decay = false;
    std::string_view list = decays;
    while (!list.empty()) {
        // Up to the first comma outside braces.
        std::size_t end = 0;
        for (int open = 0; end < list.size() && (open > 0 || list[end] != ','); ++end)
            open += (list[end] == '{') - (list[end] == '}');
        auto glob = list.substr(0, end);
        list.remove_prefix(std::min(glob.size() + 1, list.size()));
        while (!glob.empty() && glob.front() == ' ') glob.remove_prefix(1);
        while (!glob.empty() && glob.back() == ' ') glob.remove_suffix(1);
        bool take_out = glob.starts_with('!');
        if (glob_matches(take_out ? glob.substr(1) : glob, path)) decay = !take_out;
    }
    return decay;
}

PLAIT_INLINE std::vector<std::shared_ptr<Variable>> AdamW::prepare(
    std::vector<std::shared_ptr<Variable>> const& parameters) {
    check<UsageError>(bf16_moments == f32 || bf16_moments == bf16,
                      "AdamW: bf16_moments is {}: use f32 or bf16", name_of(bf16_moments));
    std::vector<std::shared_ptr<Variable>> state;
    for (auto const& p : parameters) {
        auto& at = moments[p];
        if (!at.m) {
            auto const type = p->meta.dtype;
            Meta meta{type == f64 ? f64 : type == bf16 ? bf16_moments : f32, p->meta.shape};
            at.m = make_variable(meta, Init::zeros(), VariableKind::optimizer, "optimizer.m." + p->path);
            at.v = make_variable(meta, Init::zeros(), VariableKind::optimizer, "optimizer.v." + p->path);
            at.m->parameter = at.v->parameter = p->path;
            at.m->rows = at.v->rows = p->rows;
        }
        state.push_back(at.m);
        state.push_back(at.v);
    }
    return state;
}

PLAIT_INLINE void AdamW::update(Gradients const& gradients) {
    OriginScope origin({"optimizer", Phase::update, false});
    Tensor now = detail::scalar_feed<float>(
        "learning_rate", [curve = rate](StepInfo const& at) { return static_cast<float>(curve(at.step)); });
    Tensor step = detail::scalar_feed<std::int32_t>(
        "step", [](StepInfo const& at) { return static_cast<std::int32_t>(at.step); });
    std::vector<std::shared_ptr<Variable>> parameters;
    for (auto const& [p, g] : gradients.entries) parameters.push_back(p);
    prepare(parameters);
    for (auto const& [p, g] : gradients.entries) {
        auto const& at = moments.at(p);
        AdamWUpdate op{.beta1 = beta1,
                       .beta2 = beta2,
                       .eps = eps,
                       .decay = decays_at(p->path) ? weight_decay : 0.0,
                       .stochastic = p->meta.dtype == bf16};
        Tensors in{read(*p), g, read(*at.m), read(*at.v), now, step};
        if (op.stochastic) {
            op.site = hash_name(p->path);
            in.push_back(random_key());
        }
        auto next = apply(op, in);
        assign(*p, next[0]);
        assign(*at.m, next[1]);
        assign(*at.v, next[2]);
    }
}

}  // namespace plait::optim
