#pragma once

#include "plait/graph/pass.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/cache.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/norm.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/update.hpp"
#include "plait/passes/fusion.hpp"

#include <algorithm>
#include <unordered_set>

namespace plait {
namespace detail {

using Apart = std::function<bool(std::string_view, std::string_view)>;

struct Fusion {
    Graph const& graph;
    Readers readers;
    Apart const& apart;
    std::unordered_map<Node const*, std::vector<Value>> made{};  // what a neighbour already made for a node
    std::unordered_map<Node const*, std::shared_ptr<Node const>> shared{};
    std::unordered_set<Node const*> taken{};  // sums that others make

    using Row = std::vector<Value> (Fusion::*)(Node const&, Rewriter&);

    /// The only reader of `v`, or null.
    Node const* only_reader(Value const& v) const {
        auto it = readers.find(v);
        return it != readers.end() && it->second.size() == 1 ? it->second[0] : nullptr;
    }
    template <Op T>
    Node const* reader_that_is(Value const& v, int input) const {
        auto it = readers.find(v);
        if (it == readers.end()) return nullptr;
        for (auto const* n : it->second)
            if (n && n->op.as<T>() && n->inputs[static_cast<std::size_t>(input)] == v) return n;
        return nullptr;
    }
    static bool is(Node const& n, BinaryFn fn) {
        auto const* b = n.op.as<Binary>();
        return b && b->fn == fn;
    }
    Value value(Node const& n, int i = 0) const { return {shared.at(&n), i}; }

    static bool fits(AnyOp const& op, std::vector<Value> const& inputs) {
        Metas in;
        for (auto const& v : inputs) in.push_back(v.meta());
        return infers(op, in);
    }

    /// product + bias, and GELU after it.
    std::vector<Value> bias(Node const& n, Rewriter& r) {
        if (!is(n, BinaryFn::add)) return {};
        auto const& x = n.inputs[0];
        auto const* p = x.node->op.as<Product>();
        auto const& b = n.inputs[1].meta();
        if (!p || p->form != ProductForm::nt || p->terms != 1 || only_reader(x) != &n) return {};
        if (b.shape.rank() != 1 || b.shape[0] != x.meta().shape.back() || n.outputs[0] != x.meta()) return {};
        std::vector<Value> in{r.mapped(x.node->inputs[0]), r.mapped(x.node->inputs[1]),
                              r.mapped(n.inputs[1])};
        if (!fits(Linear{Epilogue::bias}, in)) return {};
        auto gelu = readers.find(value(n));
        if (gelu != readers.end())
            for (auto const* reader : gelu->second) {
                auto const* u = reader ? reader->op.as<Unary>() : nullptr;
                if (!u || u->fn != UnaryFn::gelu || reader->origin.phase != n.origin.phase) continue;
                auto node = record(Linear{Epilogue::bias_gelu}, std::move(in));
                made[reader] = {{node, 0}};
                return {{node, 1}};
            }
        return {{record(Linear{Epilogue::bias}, std::move(in)), 0}};
    }

    /// GELU's gradient of the product that makes its cotangent. The CPU rounds the product first, so the bits
    /// are the same. A cotangent with a name stays, as plan lines may speak of it.
    std::vector<Value> gelu_gradient(Node const& n, Rewriter& r) {
        auto const* u = n.op.as<UnaryGradient>();
        if (!u || u->fn != UnaryFn::gelu) return {};
        auto const& dy = n.inputs[1];
        auto const& from = *dy.node;
        auto const* p = from.op.as<Product>();
        if (!p || p->form != ProductForm::nn || p->terms != 1 || only_reader(dy) != &n) return {};
        if (from.origin.phase != n.origin.phase || from.origin.recomputed != n.origin.recomputed) return {};
        if (apart && apart(from.origin.path, n.origin.path)) return {};
        if (std::any_of(graph.marks.begin(), graph.marks.end(), [&](Mark const& m) { return m.value == dy; }))
            return {};
        auto in = r.mapped(from.inputs);
        in.push_back(r.mapped(n.inputs[0]));
        return values_of(record(ProductGeluGradient{}, std::move(in)));
    }

    /// A weight's gradient, and the sum of its left side's rows: the bias's, which moves to where the
    /// weight's is made.
    std::vector<Value> bias_gradient(Node const& n, Rewriter& r) {
        auto const* p = n.op.as<Product>();
        if (!p || p->form != ProductForm::tn || p->terms != 1) return {};
        auto const& dy = n.inputs[0];
        auto sums_rows = [&](Node const* other) {
            auto const* sum = other ? other->op.as<Reduce>() : nullptr;
            if (!sum || sum->fn != ReduceFn::sum || taken.contains(other)) return false;
            // All dims but the last.
            int const last = dy.meta().shape.rank() - 1;
            if (static_cast<int>(sum->dims.size()) != last ||
                std::find(sum->dims.begin(), sum->dims.end(), last) != sum->dims.end())
                return false;
            if (other->origin.phase != n.origin.phase || other->origin.recomputed != n.origin.recomputed ||
                (apart && apart(other->origin.path, n.origin.path)))
                return false;
            auto const& late = readers.find(value(*other));
            return late == readers.end() ||
                   std::all_of(late->second.begin(), late->second.end(),
                               [&](Node const* reader) { return !reader || reader->sequence > n.sequence; });
        };
        auto const& all = readers.at(dy);
        auto const sum = std::find_if(all.begin(), all.end(), sums_rows);
        if (sum == all.end()) return {};
        auto in = r.mapped(n.inputs);
        if (!fits(LinearGradient{}, in)) return {};
        taken.insert(*sum);
        auto made_here = values_of(record(LinearGradient{}, std::move(in)));
        if ((*sum)->sequence < n.sequence) r.put(value(**sum), made_here[1]);
        else made[*sum] = {made_here[1]};
        return {made_here[0]};
    }

    /// x + r, read by a norm.
    std::vector<Value> residual_norm(Node const& n, Rewriter& r) {
        if (!is(n, BinaryFn::add) || n.inputs[0].meta() != n.outputs[0] || n.inputs[1].meta() != n.outputs[0])
            return {};
        auto join = [&](Node const* norm, AnyOp op) -> std::vector<Value> {
            if (norm->origin.phase != n.origin.phase || norm->origin.recomputed != n.origin.recomputed)
                return {};
            if (apart && apart(n.origin.path, norm->origin.path)) return {};
            std::vector<Value> in{r.mapped(n.inputs[0]), r.mapped(n.inputs[1])};
            for (std::size_t i = 1; i < norm->inputs.size(); ++i) {
                if (!source_of(*norm->inputs[i].node)) return {};
                in.push_back(norm->inputs[i]);
            }
            if (!fits(op, in)) return {};
            OriginScope origin(norm->origin);
            auto all = values_of(record(std::move(op), std::move(in)));
            Value sum = all.back();
            all.pop_back();
            made[norm] = std::move(all);
            return {sum};
        };
        if (auto const* norm = reader_that_is<RmsNorm>(value(n), 0);
            norm && !norm->op.as<RmsNorm>()->residual)
            return join(norm, RmsNorm{norm->op.as<RmsNorm>()->eps, true});
        if (auto const* norm = reader_that_is<LayerNorm>(value(n), 0);
            norm && !norm->op.as<LayerNorm>()->residual)
            return join(norm, LayerNorm{norm->op.as<LayerNorm>()->eps, true});
        return {};
    }

    /// A norm's dx, added to what comes past the norm.
    std::vector<Value> residual_gradient(Node const& n, Rewriter& r) {
        auto const* rms = n.op.as<RmsNormGradient>();
        auto const* layer = n.op.as<LayerNormGradient>();
        if ((!rms || rms->residual) && (!layer || layer->residual)) return {};
        auto const* add = only_reader(value(n));
        if (!add || !is(*add, BinaryFn::add)) return {};
        auto const& past = add->inputs[0] == value(n) ? add->inputs[1] : add->inputs[0];
        if (past == value(n) || past.meta() != n.outputs[0] || past.node->sequence > n.sequence) return {};
        auto in = r.mapped(n.inputs);
        in.push_back(r.mapped(past));
        auto all = values_of(
            record(rms ? AnyOp(RmsNormGradient{true}) : AnyOp(LayerNormGradient{true}), std::move(in)));
        made[add] = {all[0]};
        return all;
    }

    bool depends(Value const& v, Node const* on, std::unordered_map<Node const*, bool>& known) const {
        if (v.node.get() == on) return true;
        if (v.node->sequence < on->sequence) return false;
        auto it = known.find(v.node.get());
        if (it != known.end()) return it->second;
        bool any = std::any_of(v.node->inputs.begin(), v.node->inputs.end(),
                               [&](Value const& i) { return depends(i, on, known); });
        return known[v.node.get()] = any;
    }

    /// The chunked projection's loss and its gradient, where dnll is known before the loss.
    std::vector<Value> loss_step(Node const& n, Rewriter& r) {
        auto const* op = n.op.as<LinearCrossEntropy>();
        if (!op) return {};
        auto const* gradient = reader_that_is<LinearCrossEntropyGradient>(value(n, 1), 3);
        if (!gradient || !std::equal(n.inputs.begin(), n.inputs.end(), gradient->inputs.begin())) return {};
        auto in = r.mapped(n.inputs);
        Value dnll = gradient->inputs[4];
        std::unordered_map<Node const*, bool> known;
        auto const* spread = dnll.node->op.as<Expand>();
        OriginScope origin(gradient->origin);
        if (spread && dnll.node->inputs[1] == value(n) && !depends(dnll.node->inputs[0], &n, known)) {
            // The loss only lends its shape, which the targets have too.
            Value like{record(Cast{dnll.meta().dtype}, {in[2]}), 0};
            in.push_back({record(*spread, {r.mapped(dnll.node->inputs[0]), like}), 0});
        } else if (!depends(dnll, &n, known)) {
            in.push_back(r.mapped(dnll));
        } else {
            return {};
        }
        auto all = values_of(record(LinearCrossEntropyStep{op->chunk, op->classes}, std::move(in)));
        made[gradient] = {all[2], all[3]};
        return {all[0], all[1]};
    }

    /// Clipping: the update multiplies the gradient itself.
    std::vector<Value> scaled_update(Node const& n, Rewriter& r) {
        auto const* op = n.op.as<AdamWUpdate>();
        if (!op || op->scaled || op->guarded) return {};
        auto const& g = n.inputs[1];
        if (!is(*g.node, BinaryFn::multiply) || g.node->inputs[1].meta().shape.rank() != 0 ||
            only_reader(g) != &n)
            return {};
        auto in = r.mapped(n.inputs);
        in[1] = r.mapped(g.node->inputs[0]);
        in.push_back(r.mapped(g.node->inputs[1]));
        auto scaled = *op;
        scaled.scaled = true;
        if (!fits(scaled, in)) return {};
        return values_of(record(scaled, std::move(in)));
    }

    /// The guard: all outputs of an update are committed under one flag, so the update looks at the flag
    /// itself.
    std::vector<Value> guarded_update(Node const& n, Rewriter& r) {
        if (!n.op.as<Commit>()) return {};
        auto const& fresh = n.inputs[1];
        auto const* op = fresh.node->op.as<AdamWUpdate>();
        constexpr int old_of[] = {0, 2, 3};
        if (!op || op->guarded) return {};
        std::vector<Node const*> commits;
        for (int i = 0; i < 3; ++i) {
            auto const* c = only_reader({fresh.node, i});
            auto const& old = fresh.node->inputs[static_cast<std::size_t>(old_of[i])];
            if (!c || !c->op.as<Commit>() || !(c->inputs[0] == old) || !(c->inputs[2] == n.inputs[2]))
                return {};
            commits.push_back(c);
        }
        auto in = r.mapped(fresh.node->inputs);
        in.push_back(r.mapped(n.inputs[2]));
        auto guarded = *op;
        guarded.guarded = true;
        auto all = values_of(record(guarded, std::move(in)));
        for (std::size_t i = 0; i < 3; ++i) made[commits[i]] = {all[i]};
        return made.at(&n);
    }

    /// A cache takes its rows where it lies: without a flag to look at there is nothing to commit.
    std::vector<Value> kept_in_place(Node const& n, Rewriter& r) {
        if (!n.op.as<Commit>()) return {};
        auto const& fresh = n.inputs[1];
        auto const* always = n.inputs[2].node->op.as<Full>();
        if (!fresh.node->op.as<CacheWrite>() || !(fresh.node->inputs[0] == n.inputs[0]) || !always ||
            always->value != 1)
            return {};
        return {r.mapped(fresh)};
    }

    Graph run(std::initializer_list<Row> rows) {
        for (auto const& n : graph.nodes) shared[n.get()] = n;
        return rewrite(graph, [&](Node const& n, Rewriter& r) -> std::vector<Value> {
            if (auto it = made.find(&n); it != made.end()) return it->second;
            for (auto row : rows)
                if (auto values = (this->*row)(n, r); !values.empty()) return values;
            return {};
        });
    }
};

}  // namespace detail

PLAIT_INLINE Graph fuse(Graph const& graph, detail::Apart const& apart) {
    using detail::Fusion;
    auto pass = [&](Graph const& g, std::initializer_list<Fusion::Row> rows) {
        return Fusion{g, readers_of(g), apart}.run(rows);
    };
    auto fused =
        pass(graph, {&Fusion::bias, &Fusion::gelu_gradient, &Fusion::bias_gradient, &Fusion::residual_norm,
                     &Fusion::residual_gradient, &Fusion::loss_step, &Fusion::scaled_update});
    // A second round, since it looks at what the first one made.
    return pass(fused, {&Fusion::guarded_update, &Fusion::kept_in_place});
}

}  // namespace plait
