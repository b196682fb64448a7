#pragma once

#include "plait/graph/collective.hpp"
#include "plait/graph/glob.hpp"
#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"
#include "plait/graph/source.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/view.hpp"
#include "plait/parallel/layout.hpp"
#include "plait/parallel/stages.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace plait {
namespace detail {

/// The module of a path that a glob names: its shortest leading part that matches.
inline std::string_view module_of(std::string_view glob, std::string_view path) {
    return shortest_part(path, [&](std::string_view part) { return glob_matches(glob, part); });
}

/// Costs of modules in the order of the program, and of what lies before and after them; what lies between
/// two goes with the first.
struct ModuleCosts {
    std::vector<std::pair<std::string, double>> modules;
    double before = 0, after = 0;
};

inline ModuleCosts module_costs(Graph const& recorded, std::string_view glob) {
    ModuleCosts costs;
    for (auto const& n : recorded.nodes) {
        if (source_of(*n) || n->origin.phase != Phase::forward) continue;
        auto flops = n->op.cost(metas_of(n->inputs)).flops;
        auto module = module_of(glob, n->origin.path);
        auto it = std::find_if(costs.modules.begin(), costs.modules.end(),
                               [&](auto const& m) { return m.first == module; });
        if (module.empty()) {
            (costs.modules.empty() ? costs.before : costs.after) += flops;
            continue;
        }
        if (!costs.modules.empty()) costs.modules.back().second += std::exchange(costs.after, 0);
        if (it == costs.modules.end()) costs.modules.emplace_back(module, flops);
        else it->second += flops;
    }
    return costs;
}

/// Runs of modules for every stage: the end of each. The costliest stage costs the least, and among such cuts
/// the squares of all costs add up to the least.
inline std::vector<std::size_t> balanced(ModuleCosts const& costs, std::size_t stages) {
    auto const n = costs.modules.size();
    std::vector<double> sums(n + 1, 0);
    for (std::size_t i = 0; i < n; ++i) sums[i + 1] = sums[i] + costs.modules[i].second;
    using Score = std::pair<double, double>;
    struct Best {
        Score score{};
        std::size_t from = 0;
    };
    std::vector<std::vector<Best>> best(stages + 1, std::vector<Best>(n + 1));
    for (std::size_t s = 1; s <= stages; ++s)
        for (std::size_t end = s; end + (stages - s) <= n; ++end) {
            bool fresh = true;
            for (std::size_t from = s - 1; from < end; ++from) {
                if (s == 1 && from > 0) break;
                auto cost =
                    sums[end] - sums[from] + (s == 1 ? costs.before : 0) + (s == stages ? costs.after : 0);
                auto const& left = best[s - 1][from].score;
                Score score{std::max(left.first, cost), left.second + cost * cost};
                if (fresh || score < best[s][end].score) best[s][end] = {score, from};
                fresh = false;
            }
        }
    std::vector<std::size_t> ends(stages);
    for (std::size_t s = stages, end = n; s > 0; --s) ends[s - 1] = end, end = best[s][end].from;
    return ends;
}

class StageFinder {
  public:
    StageFinder(Sections const& s, StageModules const& m) : sections_(s), modules_(m) {}

    StageCut run() {
        cut_.section = find_section();
        for (auto const& n : sections_.graph.nodes)
            if (in_loop(*n)) nodes_.push_back(n);
        find_staged();
        find_backward();
        std::unordered_map<Node const*, int> stage;
        for (auto const& n : nodes_)
            if (staged_.contains(n.get())) stage[n.get()] = from_inputs(*n, stage);
        from_readers(stage);
        for (auto const& n : nodes_) {
            if (!staged_.contains(n.get())) continue;
            bool back = backward(*n);
            cut_.at[n.get()] = {stage.at(n.get()), back ? Work::W : Work::F};
            cut_.backward = cut_.backward || back;
        }
        split_backward();
        return std::move(cut_);
    }

  private:
    bool in_loop(Node const& n) const { return !source_of(n) && sections_.section.at(&n) == cut_.section; }
    /// What only passes on, adds up or waits, and so belongs to what it is made from.
    static bool follows(Node const& n) {
        return n.op.as<MicroSum>() || n.op.as<MicroTree>() || n.op.as<MicroStack>() || n.op.as<Await>();
    }
    bool backward(Node const& n) const { return back_.contains(&n); }
    /// What comes after the start of backward: also a loss that is made together with its gradient.
    void find_backward() {
        for (auto const& n : nodes_) {
            bool back = !follows(*n) && (n->origin.phase != Phase::forward || n->origin.recomputed);
            for (auto const& v : n->inputs) back = back || back_.contains(v.node.get());
            if (back) back_.insert(n.get());
        }
    }

    int find_section() const {
        int found = -1;
        for (auto const& n : sections_.graph.nodes) {
            if (source_of(*n) || modules_.of(n->origin.path) < 0) continue;
            int s = sections_.section.at(n.get());
            if (s % 2 == 0) continue;
            check<UsageError>(found < 0 || found == s,
                              "stages: {} reads what the whole batch leaves, so that its modules run in two "
                              "loops over micro-batches: a pipeline wants one",
                              n->origin.path);
            found = s;
        }
        check<UsageError>(found >= 0, "stages: no module of a stage works on the batch");
        return found;
    }

    /// Nodes that variables go into, and those whose results leave the loop.
    void find_staged() {
        std::unordered_map<Node const*, bool> known;
        auto depends = [&](auto const& self, std::shared_ptr<Node const> const& n) -> bool {
            if (auto const* s = source_of(*n)) return s->kind == SourceKind::variable;
            if (auto it = known.find(n.get()); it != known.end()) return it->second;
            bool any = std::any_of(n->inputs.begin(), n->inputs.end(),
                                   [&](Value const& v) { return self(self, v.node); });
            return known[n.get()] = any;
        };
        for (auto const& n : nodes_)
            if (depends(depends, n) || (follows(*n) && !n->op.as<Await>())) staged_.insert(n.get());
        auto leaves = [&](Value const& v) {
            if (!source_of(*v.node) && in_loop(*v.node)) staged_.insert(v.node.get());
        };
        for (auto const& n : sections_.graph.nodes)
            if (!source_of(*n) && sections_.section.at(n.get()) > cut_.section)
                for (auto const& v : n->inputs) leaves(v);
        for (auto const& o : sections_.graph.outputs) leaves(o.value);
    }

    template <class Stage>
    int from_inputs(Node const& n, Stage const& stage) {
        auto of = [&](Value const& v) {
            auto it = stage.find(v.node.get());
            return it == stage.end() ? -1 : it->second;
        };
        if (follows(n) && of(n.inputs[0]) >= 0) return of(n.inputs[0]);
        int own = modules_.of(n.origin.path), latest = -1, first_back = -1;
        for (auto const& v : n.inputs) {
            int s = of(v);
            if (s < 0) continue;
            if (!backward(*v.node)) latest = std::max(latest, s);
            else first_back = first_back < 0 ? s : std::min(first_back, s);
        }
        if (backward(n)) {
            if (own >= 0) return own;
            // The first of them: sets of addresses have an order of their own on every rank.
            int first = -1;
            for (auto const& v : n.inputs)
                for (auto const* weight : weights(v.node))
                    if (auto it = weight_stage_.find(weight); it != weight_stage_.end() && it->second >= 0)
                        first = first < 0 ? it->second : std::min(first, it->second);
            if (first >= 0) return first;
            if (int forward = forward_stage(n.origin.path); forward >= 0) return forward;
            return first_back >= 0 ? first_back : latest;
        }
        check<UsageError>(own < 0 || latest <= own,
                          "stages: {} in stage {} reads from stage {}: stages must follow each other as the "
                          "program does",
                          n.origin.path, own, latest);
        int const at = own >= 0 ? own : latest;
        if (at < 0) return at;
        note_forward(n.origin.path, at);
        for (auto const& v : n.inputs)
            for (auto const* weight : weights(v.node)) note(weight_stage_, weight, at);
        return at;
    }
    /// Where all are that note the same key; -1 where they are on several stages.
    template <class Key>
    static void note(std::map<Key, int>& stages, Key key, int stage) {
        auto& known = stages.try_emplace(key, stage).first->second;
        if (known != stage) known = -1;
    }
    /// The variables that a value is made from, if it is made from variables alone.
    std::set<Variable const*> const& weights(std::shared_ptr<Node const> const& n) {
        auto [it, fresh] = weights_.try_emplace(n.get());
        if (!fresh) return it->second;
        if (auto const* s = source_of(*n)) {
            if (auto variable = s->variable.lock()) weights_[n.get()].insert(variable.get());
            return weights_.at(n.get());
        }
        std::set<Variable const*> all;
        for (auto const& v : n->inputs) {
            auto const& of = weights(v.node);
            if (of.empty()) return weights_.at(n.get());
            all.insert(of.begin(), of.end());
        }
        return weights_[n.get()] = std::move(all);
    }
    static std::string_view outer(std::string_view path) {
        auto dot = path.rfind('.');
        return path.substr(0, dot == std::string_view::npos ? 0 : dot);
    }
    /// Where the forward nodes of a path, or else of the smallest module around it that has any, all are; -1
    /// where they are on several stages.
    int forward_stage(std::string_view path) const {
        for (; !path.empty(); path = outer(path))
            if (auto it = forward_stage_.find(path); it != forward_stage_.end()) return it->second;
        return -1;
    }
    void note_forward(std::string_view path, int stage) {
        for (; !path.empty(); path = outer(path)) note(forward_stage_, path, stage);
    }

    /// What nothing before it says is with its first reader; what leaves the loop so, with the last stage.
    template <class Stage>
    void from_readers(Stage& stage) const {
        std::unordered_map<Node const*, int> wanted;
        for (auto it = nodes_.rbegin(); it != nodes_.rend(); ++it) {
            auto own = stage.find(it->get());
            if (own == stage.end()) continue;
            if (own->second < 0) {
                auto w = wanted.find(it->get());
                own->second = w == wanted.end() ? modules_.stages - 1 : w->second;
            }
            for (auto const& v : (*it)->inputs) {
                auto [w, fresh] = wanted.try_emplace(v.node.get(), own->second);
                if (!fresh) w->second = std::min(w->second, own->second);
            }
        }
    }

    /// Of backward, what leaves a stage and what that is made from.
    void split_backward() {
        std::vector<std::vector<Node const*>> leaving(static_cast<std::size_t>(modules_.stages));
        std::vector<std::vector<Node const*>> outer = leaving;
        for (auto const& n : nodes_) {
            auto reader = cut_.at.find(n.get());
            if (reader == cut_.at.end()) continue;
            for (auto const& v : n->inputs) {
                auto made = cut_.at.find(v.node.get());
                if (made == cut_.at.end() || made->second.work == Work::F) continue;
                auto s = static_cast<std::size_t>(made->second.stage);
                if (reader->second.stage != made->second.stage) leaving[s].push_back(v.node.get());
                else if (modules_.of(v.node->origin.path) >= 0 && modules_.of(n->origin.path) < 0 &&
                         !follows(*n))
                    outer[s].push_back(v.node.get());
            }
        }
        for (std::size_t s = 0; s < leaving.size(); ++s) {
            auto& work = leaving[s].empty() ? outer[s] : leaving[s];
            while (!work.empty()) {
                auto const* n = work.back();
                work.pop_back();
                auto& at = cut_.at.at(n);
                if (at.work != Work::W) continue;
                at.work = Work::B;
                for (auto const& v : n->inputs)
                    if (auto it = cut_.at.find(v.node.get());
                        it != cut_.at.end() && it->second.stage == at.stage)
                        work.push_back(v.node.get());
            }
        }
        // Sums of what B makes are made with it, so that nothing waits for W.
        for (auto const& n : nodes_) {
            auto it = cut_.at.find(n.get());
            if (it == cut_.at.end() || it->second.work != Work::W || !light(*n)) continue;
            bool with_b = true;
            for (auto const& v : n->inputs) {
                auto made = cut_.at.find(v.node.get());
                with_b = with_b && made != cut_.at.end() && made->second.work == Work::B &&
                         made->second.stage == it->second.stage;
            }
            if (with_b) it->second.work = Work::B;
        }
    }
    static bool light(Node const& n) {
        return follows(n) || n.op.as<Binary>() || n.op.as<Join>() || n.op.as<LeafTree>() || n.op.as<Part>() ||
               n.op.as<Reshape>() || is_collective(n.op);
    }

    Sections const& sections_;
    StageModules const& modules_;
    StageCut cut_;
    std::vector<std::shared_ptr<Node const>> nodes_;  // of the loop
    std::set<Node const*> staged_, back_;
    std::map<std::string_view, int> forward_stage_;  // of paths and the modules around; -1: on several
    std::map<Variable const*, int> weight_stage_;    // of the nodes that read it forward
    std::unordered_map<Node const*, std::set<Variable const*>> weights_;
};

}  // namespace detail

PLAIT_INLINE int StageModules::of(std::string_view path) const {
    int stage = -1;
    detail::shortest_part(path, [&](std::string_view part) {
        auto it =
            std::find_if(modules.begin(), modules.end(), [&](auto const& m) { return m.first == part; });
        if (it != modules.end()) stage = it->second;
        return it != modules.end();
    });
    return stage;
}

PLAIT_INLINE std::string StageModules::text() const {
    std::vector<std::string> lists(static_cast<std::size_t>(stages));
    for (auto const& [path, stage] : modules) {
        auto& list = lists[static_cast<std::size_t>(stage)];
        list += (list.empty() ? "" : ", ") + path;
    }
    std::string text;
    for (std::size_t s = 0; s < lists.size(); ++s) text += fmt::format("stage {}: {}\n", s, lists[s]);
    return text;
}

PLAIT_INLINE StageModules find_stages(Graph const& recorded, std::vector<std::string> const& globs,
                                      int stages) {
    StageModules found{stages, {}};
    auto count = static_cast<std::size_t>(stages);
    if (globs.size() == 1) {
        auto costs = detail::module_costs(recorded, globs[0]);
        check<UsageError>(!costs.modules.empty(), "plan: stages: {} names no module", globs[0]);
        check<UsageError>(
            costs.modules.size() >= count,
            "plan: stages: {} names {} modules, fewer than the {} stages: use fewer pipeline ranks or "
            "virtual stages",
            globs[0], costs.modules.size(), stages);
        auto ends = detail::balanced(costs, count);
        for (std::size_t s = 0, i = 0; s < count; ++s)
            for (; i < ends[s]; ++i) found.modules.emplace_back(costs.modules[i].first, static_cast<int>(s));
        return found;
    }
    check<UsageError>(globs.size() == count,
                      "plan: stages: {} globs for {} stages: give one, or one for each", globs.size(),
                      stages);
    for (std::size_t s = 0; s < count; ++s) {
        bool any = false;
        for (auto const& n : recorded.nodes) {
            if (source_of(*n) || n->origin.phase != Phase::forward) continue;
            auto module = detail::module_of(globs[s], n->origin.path);
            if (module.empty()) continue;
            auto it = std::find_if(found.modules.begin(), found.modules.end(),
                                   [&](auto const& m) { return m.first == module; });
            if (it == found.modules.end())
                it = found.modules.emplace(it, std::string(module), static_cast<int>(s));
            check<UsageError>(it->second == static_cast<int>(s), "plan: stages: {} is in {} and in {}",
                              module, globs[static_cast<std::size_t>(it->second)], globs[s]);
            any = true;
        }
        check<UsageError>(any, "plan: stages: {} names no module, so stage {} is empty", globs[s], s);
    }
    return found;
}

PLAIT_INLINE StageCut cut_stages(Sections const& sections, StageModules const& modules) {
    return detail::StageFinder(sections, modules).run();
}

}  // namespace plait
