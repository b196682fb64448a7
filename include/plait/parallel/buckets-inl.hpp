#pragma once

#include "plait/graph/collective.hpp"
#include "plait/graph/glob.hpp"
#include "plait/graph/parts.hpp"
#include "plait/graph/pass.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/view.hpp"
#include "plait/parallel/buckets.hpp"

#include <algorithm>
#include <list>

namespace plait {
namespace detail {

class Bucketer {
  public:
    Bucketer(LocalGraph local, Mesh const& mesh, std::function<int(std::string_view)> const& stage_of)
        : local_(std::move(local)), mesh_(mesh), stage_of_(stage_of), readers_(readers_of(local_.graph)) {}

    LocalGraph run() {
        for (auto const& n : local_.graph.nodes)
            if (shares(n)) members_.insert(n.get()), members_.insert(n->inputs[0].node.get());
        if (members_.empty()) return std::move(local_);
        for (auto const& n : local_.graph.nodes) {
            if (source_of(*n)) keep(n, n);
            else if (!members_.contains(n.get())) build(n);
            else if (n->op.as<Await>()) add(n);
        }
        while (!open_.empty()) reduce(open_.begin());
        auto outputs = local_.graph.outputs;
        for (auto& o : outputs) o.value = mapped(o.value);
        auto updates = local_.graph.updates;
        for (auto& u : updates) u.variable = mapped(u.variable), u.value = mapped(u.value);
        result_.graph = Graph::of(std::move(outputs), std::move(updates));
        return std::move(result_);
    }

  private:
    struct Bucket {
        AnyOp call;  // what its members' become
        DType dtype = DType::f32;
        bool soon = true, inside = false;
        std::string_view unit;
        int stage = -1;
        std::int64_t bytes = 0;
        std::vector<std::shared_ptr<Node const>> awaits{};

        bool takes(Bucket const& b) const {
            constexpr std::int64_t most = 1 << 20;
            return unit == b.unit && stage == b.stage && bytes + b.bytes <= most;
        }
        bool is_like(Bucket const& b) const {
            return call.text() == b.call.text() && dtype == b.dtype && soon == b.soon && inside == b.inside;
        }
    };

    /// Whether an `Await` ends the reduction of a small gradient that may share its call.
    bool shares(std::shared_ptr<Node const> const& n) const {
        if (!n->op.as<Await>() || n->origin.phase != Phase::backward || n->origin.recomputed) return false;
        auto const& reduction = *n->inputs[0].node;
        auto const* all = reduction.op.as<AllReduce>();
        auto const* scatter = reduction.op.as<ReduceScatter>();
        if (!all && !scatter) return false;
        auto const& x = reduction.inputs[0].meta();
        // Parts of one size, so that the bytes on the wire add up.
        if (x.bytes() >= small_gradient || x.elements() % mesh_.axis(all ? all->axis : scatter->axis).size)
            return false;
        // A variable's place and a result want values of their own; what backward reads on is no gradient of
        // a variable, and joined it could not be cut into micro-batches.
        auto it = readers_.find({n, 0});
        return it != readers_.end() && std::none_of(it->second.begin(), it->second.end(), [](Node const* r) {
                   return !r || (r->origin.phase == Phase::backward && !is_collective(r->op));
               });
    }

    Bucket bucket_of(std::shared_ptr<Node const> const& await) const {
        auto const& reduction = *await->inputs[0].node;
        auto call = reduction.op;
        if (auto const* scatter = call.as<ReduceScatter>()) {
            auto stacked = *scatter;
            stacked.stacked = true;
            call = stacked;
        }
        auto const& path = await->origin.path;
        return {std::move(call),
                reduction.outputs[0].dtype,
                await->op.as<Await>()->soon,
                local_.inside.contains(&reduction),
                unit_of(path),
                stage_of_(path),
                reduction.inputs[0].meta().bytes(),
                {await}};
    }

    /// `made` stands for `old`.
    void keep(std::shared_ptr<Node const> const& old, std::shared_ptr<Node const> const& made) {
        for (int i = 0; i < static_cast<int>(old->outputs.size()); ++i) stands({old, i}, {made, i});
        if (local_.inside.contains(old.get())) result_.inside.insert(made.get());
        if (local_.repeated.contains(old.get())) result_.repeated.insert(made.get());
    }
    void stands(Value const& old, Value const& made) {
        map_[old] = made;
        if (auto it = local_.place.find(old); it != local_.place.end()) result_.place[made] = it->second;
    }
    Value mapped(Value const& v) {
        for (auto b = open_.begin(); b != open_.end(); ++b)
            if (std::find(b->awaits.begin(), b->awaits.end(), v.node) != b->awaits.end()) {
                reduce(b);
                break;
            }
        return map_.at(v);
    }

    void build(std::shared_ptr<Node const> const& n) {
        // A module's gradients are there when the next one begins.
        auto unit = unit_of(n->origin.path);
        reduce_where([&](Bucket const& b) {
            return n->origin.phase != Phase::backward || (!unit.empty() && b.unit != unit);
        });
        std::vector<Value> inputs;
        for (auto const& v : n->inputs) inputs.push_back(mapped(v));
        OriginScope origin(n->origin);
        keep(n, record(n->op, std::move(inputs)));
    }

    void add(std::shared_ptr<Node const> const& await) {
        auto more = bucket_of(await);
        reduce_where([&](Bucket const& b) { return b.is_like(more) && !b.takes(more); });
        auto b = std::find_if(open_.begin(), open_.end(), [&](Bucket const& o) { return o.is_like(more); });
        if (b == open_.end()) return open_.push_back(std::move(more));
        b->bytes += more.bytes;
        b->awaits.push_back(await);
    }

    template <class F>
    void reduce_where(F const& chosen) {
        for (;;) {
            auto b = std::find_if(open_.begin(), open_.end(), chosen);
            if (b == open_.end()) return;
            reduce(b);
        }
    }

    /// Records the call of a bucket, which is gone then.
    void reduce(std::list<Bucket>::iterator at) {
        Bucket const bucket = std::move(*at);
        open_.erase(at);
        std::vector<Value> x;
        for (auto const& a : bucket.awaits) x.push_back(mapped(a->inputs[0].node->inputs[0]));
        auto const& first = *bucket.awaits.front();
        OriginScope origin(first.origin);
        auto apply = [&](AnyOp op, std::vector<Value> in) {
            auto n = record(std::move(op), std::move(in));
            if (bucket.inside) result_.inside.insert(n.get());
            return Value{n, 0};
        };
        if (x.size() == 1)
            return stands({bucket.awaits[0], 0},
                          apply(first.op, {apply(first.inputs[0].node->op, std::move(x))}));
        // Blocks of a gradient go to ranks: side by side lie those of one rank.
        auto const* scatter = bucket.call.as<ReduceScatter>();
        std::vector<Value> flat;
        for (auto const& v : x) {
            auto const n = v.meta().elements();
            flat.push_back(
                apply(Reshape{scatter ? Shape{scatter->count, n / scatter->count} : Shape{n}}, {v}));
        }
        auto sums = apply(first.op, {apply(bucket.call, {apply(Join{scatter ? 1 : 0}, std::move(flat))})});
        std::int64_t start = 0;
        for (auto const& a : bucket.awaits) {
            auto const& shape = a->outputs[0].shape;
            auto part = apply(Part{0, start, shape.elements()}, {sums});
            stands({a, 0}, apply(Reshape{shape}, {part}));
            start += shape.elements();
        }
    }

    LocalGraph local_, result_;
    Mesh const& mesh_;
    std::function<int(std::string_view)> const& stage_of_;
    Readers readers_;
    std::unordered_set<Node const*> members_;  // the awaits and their reductions
    std::list<Bucket> open_;
    ValueMap<Value> map_;  // of the given graph -> of the new one
};

}  // namespace detail

PLAIT_INLINE LocalGraph share_reductions(LocalGraph local, Mesh const& mesh,
                                         std::function<int(std::string_view path)> const& stage_of) {
    return detail::Bucketer(std::move(local), mesh, stage_of).run();
}

}  // namespace plait
