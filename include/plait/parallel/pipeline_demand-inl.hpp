#pragma once

#include "plait/graph/micro.hpp"
#include "plait/graph/source.hpp"
#include "plait/parallel/layout.hpp"
#include "plait/parallel/pipeline.hpp"
#include "plait/parallel/slot_order-inl.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

namespace plait::detail {

/// Ranks of the pipeline axis; none means any of them.
using RankSet = std::optional<std::set<int>>;

/// Which rank of a pipeline has, makes and wants what: the same on all of them.
class PipelineDemand {
  public:
    PipelineDemand(Sections const& whole, StageCut const& cut, Schedule const& schedule, int rank,
                   std::vector<std::shared_ptr<Variable>> const& variables)
        : whole_(whole),
          cut_(cut),
          schedule_(schedule),
          me_(rank),
          variables_(variables),
          order_of_slots_(schedule, cut.backward) {
        for (auto const& n : whole_.graph.nodes)
            if (!source_of(*n)) order_.push_back(n);
        std::stable_sort(order_.begin(), order_.end(),
                         [&](auto const& a, auto const& b) { return section(*a) < section(*b); });
        find_presence();
        find_homes();
        find_wanted();
        find_messages();
    }

  protected:
    struct Message {
        Value value;
        int from = 0, to = 0, edge = 0;
        int section = 0;      // where it goes
        Slot made{}, read{};  // of the first micro-batch, inside the loop
        bool looped = false;
        int post = -1, waits = -1;  // pieces, on the rank that receives and the one that sends

        Message(Value v, int from_rank, int to_rank, int number)
            : value(std::move(v)), from(from_rank), to(to_rank), edge(number) {}
    };

    int section(Node const& n) const { return whole_.section.at(&n); }
    bool in_loop(Node const& n) const { return section(n) == cut_.section; }
    StageCut::At const* staged(Node const& n) const {
        auto it = cut_.at.find(&n);
        return it == cut_.at.end() ? nullptr : &it->second;
    }
    int rank_of(StageCut::At const& at) const {
        return schedule_.rank_of_stage[static_cast<std::size_t>(at.stage)];
    }
    std::set<int> all_ranks() const {
        std::set<int> all;
        for (int r = 0; r < schedule_.ranks; ++r) all.insert(r);
        return all;
    }
    /// Results of the loop that are there only after it.
    static bool is_total(Node const& n) {
        return n.op.as<MicroSum>() || n.op.as<MicroTree>() || n.op.as<MicroStack>();
    }

    /// The ranks of every variable: those whose stages read it.
    void find_presence() {
        std::map<std::pair<Node const*, int>, bool> seen;
        auto reach = [&](auto const& self, Value const& v, int rank) -> void {
            if (auto const* s = source_of(*v.node)) {
                if (auto variable = s->variable.lock()) presence_[variable.get()].insert(rank);
                return;
            }
            if (staged(*v.node) || !seen.try_emplace({v.node.get(), rank}).second) return;
            for (auto const& in : v.node->inputs) self(self, in, rank);
        };
        for (auto const& n : order_)
            if (auto const* at = staged(*n))
                for (auto const& v : n->inputs) reach(reach, v, rank_of(*at));
        std::map<std::string_view, std::set<int>> of_parameter;
        for (auto const& v : variables_)
            if (v->kind == VariableKind::parameter)
                if (auto it = presence_.find(v.get()); it != presence_.end())
                    of_parameter[v->path] = it->second;
        for (auto const& v : variables_) {
            if (v->kind == VariableKind::optimizer)
                if (auto it = of_parameter.find(v->parameter); it != of_parameter.end())
                    presence_[v.get()] = it->second;
            // A scalar has no dim that could be empty.
            auto it = presence_.find(v.get());
            if (it == presence_.end() || v->meta.shape.rank() == 0) presence_[v.get()] = all_ranks();
        }
    }

    RankSet home(Value const& v) const {
        if (auto const* s = source_of(*v.node)) {
            auto variable = s->variable.lock();
            return variable ? RankSet(presence_.at(variable.get())) : RankSet();
        }
        if (auto const* at = staged(*v.node)) return std::set{rank_of(*at)};
        return homes_.at(v.node.get());
    }

    static bool is_variable(Value const& v) {
        auto const* s = source_of(*v.node);
        return s && s->kind == SourceKind::variable;
    }

    /// Where what goes into a node lies: its variables, if it reads any, as an update is made wherever they
    /// are. Where no rank has all of it, any rank may make it.
    void find_homes() {
        for (auto const& n : order_) {
            if (staged(*n)) continue;
            RankSet common;
            bool const variables = std::any_of(n->inputs.begin(), n->inputs.end(), is_variable);
            for (auto const& v : n->inputs) {
                auto h = home(v);
                if (!h || (variables && !is_variable(v))) continue;
                if (!common) {
                    common = h;
                    continue;
                }
                std::erase_if(*common, [&](int r) { return !h->contains(r); });
            }
            if (common && common->empty()) {
                common.reset();
                find_parts(*n);
                check<UsageError>(!variables || parts_.contains(n.get()),
                                  "stages: {} in '{}' reads variables that no rank of the pipeline has "
                                  "together: put their modules into one stage",
                                  n->op.name(), n->origin.path);
            }
            homes_[n.get()] = common;
        }
    }

    /// A fold over values of several ranks: the inputs by the first rank that has them.
    void find_parts(Node const& n) {
        auto rule = n.op.rule(metas_of(n.inputs));
        bool exact = rule.combine != Combine::sum || !is_floating(n.outputs[0].dtype);
        if (!rule.passes || !exact || n.inputs.size() < 3) return;
        auto& parts = parts_[&n];
        for (auto const& v : n.inputs) {
            auto h = home(v);
            parts[h ? *h->begin() : 0].push_back(v);
        }
    }

    /// Which ranks make and want every node outside the loop's stages, from what is read back to what makes
    /// it.
    void find_wanted() {
        std::unordered_map<Node const*, std::set<int>> wanted;
        auto want = [&](Value const& v, std::set<int> const& ranks) {
            if (source_of(*v.node)) return;
            auto& w = wants_[v];
            w.insert(ranks.begin(), ranks.end());
            wanted[v.node.get()].insert(ranks.begin(), ranks.end());
        };
        for (auto const& o : whole_.graph.outputs) want(o.value, all_ranks());
        for (auto const& u : whole_.graph.updates) want(u.value, presence_of(u));
        for (auto it = order_.rbegin(); it != order_.rend(); ++it) {
            auto const& n = *it;
            if (auto const* at = staged(*n)) {
                makes_[n.get()] = {rank_of(*at)};
            } else {
                auto const& ranks = wanted[n.get()];
                auto const& h = homes_.at(n.get());
                auto& makes = makes_[n.get()];
                if (!h) makes = ranks;
                else
                    for (int r : ranks)
                        if (h->contains(r)) makes.insert(r);
                if (makes.empty() && !ranks.empty()) makes.insert(*h->begin());
            }
            if (auto parts = parts_.find(n.get()); parts != parts_.end()) {
                for (auto const& [rank, values] : parts->second)
                    for (auto const& v : values) want(v, {rank});
            } else {
                for (auto const& v : n->inputs) want(v, makes_.at(n.get()));
            }
        }
    }
    std::set<int> const& presence_of(Update const& u) const {
        return presence_.at(source_of(*u.variable.node)->variable.lock().get());
    }

    /// All messages of all ranks, in the order of the values.
    void find_messages() {
        std::unordered_map<Node const*, std::vector<std::pair<int, Node const*>>> readers;  // by output
        for (auto const& n : order_)
            if (staged(*n))
                for (auto const& v : n->inputs) readers[v.node.get()].emplace_back(v.output, n.get());
        for (auto const& n : order_) {
            auto const& makes = makes_.at(n.get());
            for (auto const& v : values_of(n)) {
                auto wants = wants_.find(v);
                if (wants == wants_.end()) continue;
                std::map<int, std::vector<Node const*>> looped;
                if (staged(*n) && !is_total(*n))
                    for (auto const& [output, reader] : readers[n.get()])
                        if (output == v.output && in_loop(*reader))
                            looped[rank_of(*staged(*reader))].push_back(reader);
                for (int to : wants->second) {
                    if (makes.contains(to)) continue;
                    auto& m =
                        messages_.emplace_back(v, *makes.begin(), to, static_cast<int>(messages_.size()));
                    if (auto it = looped.find(to); it != looped.end()) loop_message(m, it->second);
                    else after_message(m);
                }
            }
        }
    }

    void loop_message(Message& m, std::vector<Node const*> const& readers) const {
        auto const* at = staged(*m.value.node);
        m.looped = true, m.section = cut_.section, m.made = {at->work, at->stage, 0};
        auto slot = [&](Node const* r) { return Slot{staged(*r)->work, staged(*r)->stage, 0}; };
        auto when = [&](Slot const& s, int micro) { return order_of_slots_.of(s, micro); };
        m.read = slot(readers.front());
        for (auto const* r : readers)
            if (when(slot(r), 0) < when(m.read, 0)) m.read = slot(r);
        for (int micro = 0; micro < schedule_.micro_batches; ++micro)
            check<UsageError>(
                when(m.made, micro) < when(m.read, micro),
                "stages: {} in stage {} reads what {} in stage {} makes later: stages must follow "
                "each other as the program does",
                readers.front()->origin.path, m.read.stage, m.value.node->origin.path, m.made.stage);
    }

    void after_message(Message& m) const {
        m.section = std::max(section(*m.value.node), cut_.section + 1);
        check<UsageError>(section(*m.value.node) >= cut_.section && m.section % 2 == 0,
                          "stages: {} in '{}' is wanted on a rank that does not have what it is made from",
                          m.value.node->op.name(), m.value.node->origin.path);
    }

    Sections const& whole_;
    StageCut const& cut_;
    Schedule const& schedule_;
    int const me_;
    std::vector<std::shared_ptr<Variable>> const& variables_;
    SlotOrder order_of_slots_;
    std::vector<std::shared_ptr<Node const>> order_;

    Holders presence_;
    std::unordered_map<Node const*, RankSet> homes_;  // of nodes that belong to no stage
    std::unordered_map<Node const*, std::map<int, std::vector<Value>>> parts_;
    std::unordered_map<Node const*, std::set<int>> makes_;  // ranks that run a node
    ValueMap<std::set<int>> wants_;
    std::vector<Message> messages_;
};

}  // namespace plait::detail
