#pragma once

#include "plait/exec/overlap.hpp"
#include "plait/graph/collective.hpp"
#include "plait/graph/glob.hpp"
#include "plait/graph/micro.hpp"
#include "plait/graph/source.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace plait {
namespace detail {

/// The nodes of one part, as they lie in the order.
class Overlapper {
  public:
    explicit Overlapper(NodeOrder nodes) : nodes_(std::move(nodes)) {
        for (std::size_t t = 0; t < nodes_.size(); ++t) position_[nodes_[t].get()] = t;
        measure();
    }

    NodeOrder run() {
        for (std::size_t t = 0; t < nodes_.size(); ++t) {
            auto const& n = nodes_[t];
            start_gathers(t);
            if (n->op.as<Await>()) {
                waiting_.push_back(n);
                if (frees(*n)) freeing_.push_back(n), held_ += reduced_bytes(*n);
                while (held_ > held_limit_ && freeing_.size() > 1) await(freeing_.front());
                continue;
            }
            if (trails(*n) && !is_there(n->inputs[0])) {
                unread_.insert(n.get());
                trailing_.push_back(n);
                continue;
            }
            if (can_wait(*n)) {
                if (later_.empty()) later_unit_ = unit_of(n->origin.path);
                later_.push_back(n);
                postponed_.insert(n.get());
                continue;
            }
            make(n);
            end_reads(t);
        }
        make_later();
        while (!waiting_.empty()) await(waiting_.front());
        return std::move(made_);
    }

  private:
    struct Gather {
        std::shared_ptr<Node const> node;
        std::size_t first_read = 0, last_read = 0;  // positions
        std::int64_t bytes = 0;
        bool weight = false;  // of variables alone: it can start at any time
        bool started = false;
    };

    static bool frees(Node const& await) {
        auto const& op = await.inputs[0].node->op;
        return await.op.as<Await>()->soon && (op.as<ReduceScatter>() || op.as<AllReduce>());
    }
    std::tuple<std::string_view, Phase, bool> module_of(Node const& n) const {
        return {unit_of(n.origin.path), n.origin.phase, n.origin.recomputed};
    }
    /// Whether a node is made from variables alone, without ranks meeting for it.
    bool is_free(Node const& n) {
        if (auto const* s = source_of(n)) return s->kind == SourceKind::variable;
        auto [it, fresh] = free_.try_emplace(&n, false);
        if (!fresh) return it->second;
        bool free = !is_collective(n.op) && !n.op.as<Await>() && !n.op.as<Receive>() && !n.op.as<Send>();
        for (auto const& v : n.inputs) free = free && is_free(*v.node);
        return free_[&n] = free;
    }
    static std::int64_t reduced_bytes(Node const& await) {
        return await.inputs[0].node->inputs[0].meta().bytes();
    }

    /// Gathers with their readers, and what modules gather and reduce.
    void measure() {
        std::map<std::tuple<std::string_view, Phase, bool>, std::int64_t> gathered, reduced;
        for (auto const& n : nodes_) {
            if (!n->op.as<AllGather>()) continue;
            auto t = position_.at(n.get());
            bool free = is_free(*n->inputs[0].node);
            gathers_[n.get()] = {n, nodes_.size(), t, n->outputs[0].bytes(), free, false};
            if (free) gathered[module_of(*n)] += n->outputs[0].bytes();
        }
        // What goes to a reduction, through what only passes it on.
        for (auto it = nodes_.rbegin(); it != nodes_.rend(); ++it) {
            auto const& n = **it;
            bool passes = n.inputs.size() == 1 || n.op.as<Join>();
            if (!is_collective(n.op) && !(reduced_.contains(&n) && passes)) continue;
            for (auto const& v : n.inputs) reduced_.insert(v.node.get());
        }
        // Readers, through views.
        std::unordered_map<Node const*, Node const*> gather_of;
        for (auto const& n : nodes_)
            for (auto const& v : n->inputs) {
                Node const* g = gathers_.contains(v.node.get()) ? v.node.get() : nullptr;
                if (auto it = gather_of.find(v.node.get()); it != gather_of.end()) g = it->second;
                if (!g) continue;
                auto t = position_.at(n.get());
                auto& gather = gathers_.at(g);
                gather.last_read = std::max(gather.last_read, t);
                if (is_view(*n)) gather_of[n.get()] = g;
                if (!n->op.as<Await>()) gather.first_read = std::min(gather.first_read, t);
            }
        for (auto const& n : nodes_)
            if (n->op.as<Await>() && frees(*n)) reduced[module_of(*n)] += reduced_bytes(*n);
        auto largest = [](auto const& bytes) {
            std::int64_t first = 0, second = 0;
            for (auto const& [module, b] : bytes) {
                if (b > first) second = first, first = b;
                else second = std::max(second, b);
            }
            return std::pair(first, second);
        };
        auto [first, second] = largest(gathered);
        gathered_limit_ = first + second;
        held_limit_ = largest(reduced).first;
        for (auto& [node, g] : gathers_) queue_.push_back(&g);
        std::sort(queue_.begin(), queue_.end(), [&](Gather const* a, Gather const* b) {
            return std::tuple(a->first_read, position_.at(a->node.get())) <
                   std::tuple(b->first_read, position_.at(b->node.get()));
        });
        for (auto* g : queue_) ends_.emplace(g->last_read, g);
    }

    /// Those that are due at `t`, and, in the order of their readers, those for which there is room.
    void start_gathers(std::size_t t) {
        bool room = true;
        for (std::size_t i = first_; i < queue_.size(); ++i) {
            auto& g = *queue_[i];
            if (g.started) {
                first_ += i == first_;
                continue;
            }
            bool due = position_.at(g.node.get()) == t;
            if (!g.weight && !due) continue;
            if (!due && (!room || live_ + g.bytes > gathered_limit_)) {
                room = false;
                // What is due may stand behind what has no room.
                if (!gathers_.contains(nodes_[t].get())) break;
                continue;
            }
            g.started = true;
            live_ += g.bytes;
            make(g.node);
        }
    }
    void end_reads(std::size_t t) {
        auto [first, last] = ends_.equal_range(t);
        for (auto it = first; it != last; ++it)
            if (it->second->started) live_ -= it->second->bytes;
    }

    static bool is_view(Node const& n) {
        auto const aliases = n.op.aliases();
        return n.inputs.size() == 1 && aliases.size() == 1 && aliases[0].view;
    }
    /// What is made of a result alone and is as large, or adds it to those of other micro-batches, is made
    /// when the result is there.
    static bool trails(Node const& n) {
        if (n.inputs.size() != 1 || n.op.as<Await>() || n.op.as<Send>() || is_collective(n.op)) return false;
        return is_view(n) || n.op.as<MicroSum>() ||
               (n.outputs.size() == 1 && n.outputs[0].elements() == n.inputs[0].meta().elements());
    }
    bool is_there(Value const& v) const {
        return !unread_.contains(v.node.get()) &&
               std::none_of(waiting_.begin(), waiting_.end(), [&](auto const& w) { return w == v.node; });
    }
    void make_trailing() {
        std::erase_if(trailing_, [&](auto const& n) {
            if (!is_there(n->inputs[0])) return false;
            unread_.erase(n.get());
            emit(n);
            end_reads(position_.at(n.get()));
            return true;
        });
    }

    void await_read(Value const& v) {
        if (unread_.contains(v.node.get())) await_read(v.node->inputs[0]);
        auto it = std::find_if(waiting_.begin(), waiting_.end(), [&](auto const& w) { return w == v.node; });
        if (it != waiting_.end()) await(*it);
    }
    void await(std::shared_ptr<Node const> n) {
        make_later();
        if (emitted_.contains(n.get())) return;  // what was put off has read it
        std::erase(waiting_, n);
        if (auto it = std::find(freeing_.begin(), freeing_.end(), n); it != freeing_.end()) {
            freeing_.erase(it);
            held_ -= reduced_bytes(*n);
        }
        emit(n);
        make_trailing();
    }
    /// Products of weight gradients, and what follows from them, fill the time that the cotangents' way
    /// through the ranks takes: nobody there waits for them. A gradient that is reduced itself goes at once.
    bool can_wait(Node const& n) {
        if (n.op.as<Receive>() || n.op.as<Send>() || is_collective(n.op)) return false;
        if (!later_.empty() && unit_of(n.origin.path) != later_unit_) make_later();
        for (auto const& v : n.inputs)
            if (postponed_.contains(v.node.get())) return true;
        if (n.origin.phase != Phase::backward || n.origin.recomputed || reduced_.contains(&n)) return false;
        return sums_rows(n);
    }
    /// A product over the first dim of its operands: the batch.
    static bool sums_rows(Node const& n) {
        Metas in;
        for (auto const& v : n.inputs) in.push_back(v.meta());
        auto const rule = n.op.rule(in);
        if (!rule.by_shape || rule.inputs.empty() || rule.inputs[0].empty() || rule.inputs[0][0].empty())
            return false;
        return !Rule::holds(rule.outputs[0], rule.inputs[0][0].front());
    }
    void make_later() {
        auto nodes = std::exchange(later_, {});
        postponed_.clear();
        for (auto const& n : nodes) {
            make(n);
            end_reads(position_.at(n.get()));
        }
    }

    /// The node, after what it reads.
    void make(std::shared_ptr<Node const> const& n) {
        if (emitted_.contains(n.get())) return;
        for (auto const& v : n->inputs)
            if (postponed_.contains(v.node.get())) {
                make_later();
                break;
            }
        for (auto const& v : n->inputs) {
            await_read(v);
            if (position_.contains(v.node.get()) && is_free(*v.node)) make(v.node);
        }
        emit(n);
    }
    void emit(std::shared_ptr<Node const> const& n) {
        emitted_.insert(n.get());
        made_.push_back(n);
    }

    NodeOrder nodes_, made_;
    std::unordered_map<Node const*, std::size_t> position_;
    std::unordered_map<Node const*, Gather> gathers_;
    std::unordered_map<Node const*, bool> free_;
    std::unordered_set<Node const*> emitted_, postponed_, reduced_;
    NodeOrder later_;                         // postponed, in their order
    NodeOrder trailing_;                      // of results that are waited for, in their order
    std::unordered_set<Node const*> unread_;  // the same
    std::string_view later_unit_;
    std::vector<Gather*> queue_;  // by first reader
    std::size_t first_ = 0;       // of the queue, that has not started
    std::multimap<std::size_t, Gather*> ends_;
    std::int64_t live_ = 0, gathered_limit_ = 0;  // bytes
    std::int64_t held_ = 0, held_limit_ = 0;
    std::vector<std::shared_ptr<Node const>> waiting_;
    std::deque<std::shared_ptr<Node const>> freeing_;  // of `waiting_`
};

}  // namespace detail

PLAIT_INLINE NodeOrder overlapped(NodeOrder const& order,
                                  std::function<std::pair<int, int>(Node const*)> const& part_of) {
    NodeOrder result;
    for (std::size_t first = 0; first < order.size();) {
        auto last = first;
        while (last < order.size() && part_of(order[last].get()) == part_of(order[first].get())) ++last;
        auto made = detail::Overlapper({order.begin() + static_cast<std::ptrdiff_t>(first),
                                        order.begin() + static_cast<std::ptrdiff_t>(last)})
                        .run();
        result.insert(result.end(), made.begin(), made.end());
        first = last;
    }
    return result;
}

}  // namespace plait
