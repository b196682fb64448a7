#pragma once

#include "plait/graph/collective.hpp"
#include "plait/graph/trace.hpp"
#include "plait/parallel/pipeline_demand-inl.hpp"

#include <charconv>
#include <cstdlib>
#include <tuple>

namespace plait {
namespace detail {

/// This rank's share.
class PipelineSplitter : PipelineDemand {
  public:
    using PipelineDemand::PipelineDemand;

    PipelineShare run() {
        build();
        share_.holders = std::move(presence_);
        return std::move(share_);
    }

  private:
    void put(Node const* n, int section, int piece) {
        auto& s = share_.sections;
        s.section[n] = section;
        if (section == cut_.section) s.pipeline->piece[n] = piece;
    }
    int new_piece(std::string name) {
        auto& names = share_.sections.pipeline->names;
        names.push_back(std::move(name));
        return static_cast<int>(names.size()) - 1;
    }
    int piece_of(Slot const& s) const { return pieces_.at({static_cast<int>(s.work), s.stage}); }
    int piece_of(StageCut::At const& at) const { return piece_of(Slot{at.work, at.stage, 0}); }

    void copy_places(Value const& from, Value const& to) {
        auto& s = share_.sections;
        if (auto it = whole_.place.find(from); it != whole_.place.end()) s.place[to] = it->second;
        if (auto it = whole_.micro.find(from); it != whole_.micro.end()) s.micro[to] = it->second;
    }

    std::shared_ptr<Node const> copy(std::shared_ptr<Node const> const& n, std::vector<Value> inputs,
                                     int section, int piece) {
        OriginScope origin(n->origin);
        auto made = record(n->op, std::move(inputs));
        put(made.get(), section, piece);
        for (int i = 0; i < static_cast<int>(n->outputs.size()); ++i) copy_places({n, i}, {made, i});
        return made;
    }

    /// The value as this rank's piece reads it; -1: outside the loop.
    Value at(Value const& v, int piece) {
        if (source_of(*v.node)) return v;
        if (in_loop(*v.node) && !staged(*v.node)) {
            // Made again for every piece that reads it.
            auto& node = again_[{v.node.get(), piece}];
            if (!node) {
                std::vector<Value> inputs;
                for (auto const& in : v.node->inputs) inputs.push_back(at(in, piece));
                node = copy(v.node, std::move(inputs), cut_.section, piece);
            }
            return {node, v.output};
        }
        auto it = here_.find(v);
        check(it != here_.end(), "stages: {} in '{}' is not on rank {}", v.node->op.name(),
              v.node->origin.path, me_);
        return it->second;
    }

    void make(std::shared_ptr<Node const> const& n) {
        auto const* stage = staged(*n);
        int piece = stage ? piece_of(*stage) : -1;
        std::vector<Value> inputs;
        if (parts_.contains(n.get())) {
            inputs = parts_here_.at(n.get());
        } else {
            for (auto const& v : n->inputs) inputs.push_back(at(v, piece));
        }
        auto made = copy(n, std::move(inputs), section(*n), piece);
        for (int i = 0; i < static_cast<int>(n->outputs.size()); ++i) here_[{n, i}] = {made, i};
    }

    void send(Message const& m, Value const& v) {
        OriginScope origin(m.value.node->origin);
        auto token = record(Send{m.to, m.edge}, {v});
        put(token.get(), m.section, m.looped ? piece_of(m.made) : -1);
        auto await = record(Await{false}, {{token, 0}});
        put(await.get(), m.section, m.waits);
        effects_.push_back({await, 0});
    }
    Value receive(Message const& m, Meta const& meta) {
        OriginScope origin(m.value.node->origin);
        auto arrives = record(Receive{m.from, m.edge, meta.dtype, meta.shape}, {});
        put(arrives.get(), m.section, m.post);
        auto await = record(Await{false}, {{arrives, 0}});
        put(await.get(), m.section, m.looped ? piece_of(m.read) : -1);
        copy_places(m.value, {arrives, 0});
        copy_places(m.value, {await, 0});
        return {await, 0};
    }
    void pass_on(Value const& v) {
        auto [first, last] = by_value_.equal_range(v.node.get());
        for (auto it = first; it != last; ++it) {
            auto const& m = messages_[it->second];
            if (!(m.value == v)) continue;
            if (m.from == me_) send(m, here_.at(v));
            if (m.to == me_) here_[v] = receive(m, v.meta());
        }
    }

    /// The parts of a fold, each on its rank, go to all ranks that make the fold.
    void make_parts(std::shared_ptr<Node const> const& n) {
        OriginScope origin(n->origin);
        auto& here = parts_here_[n.get()];
        for (auto const& [rank, values] : parts_.at(n.get())) {
            Value part;
            if (rank == me_) {
                std::vector<Value> inputs;
                for (auto const& v : values) inputs.push_back(at(v, -1));
                part = inputs[0];
                if (inputs.size() > 1) {
                    auto node = record(n->op, std::move(inputs));
                    put(node.get(), section(*n), -1);
                    part = {node, 0};
                }
            }
            for (int to : makes_.at(n.get())) {
                if (to == rank) continue;
                Message m({n, 0}, rank, to, static_cast<int>(messages_.size()) + part_edges_++);
                m.section = section(*n);
                if (rank == me_) send(m, part);
                if (to == me_) part = receive(m, values[0].meta());
            }
            if (part) here.push_back(part);
        }
    }

    /// Numbered so that what a piece reads is made by pieces before it.
    void name_pieces() {
        for (std::size_t i = 0; i < messages_.size(); ++i) {
            auto& m = messages_[i];
            by_value_.emplace(m.value.node.get(), i);
            if (m.looped && m.to == me_) m.post = new_piece(fmt::format("receive {}", m.edge));
        }
        std::set<std::pair<int, int>> own;  // backward goes from the last stage to the first
        for (auto const& slot : order_of_slots_.row(me_))
            own.emplace(static_cast<int>(slot.work), slot.work == Work::B ? -slot.stage : slot.stage);
        for (auto const& [work, key] : own) {
            int stage = std::abs(key);
            pieces_[{work, stage}] = new_piece(piece_name(static_cast<Work>(work), stage));
        }
        for (auto& m : messages_)
            if (m.looped && m.from == me_) m.waits = new_piece(fmt::format("sent {}", m.edge));
    }

    void build() {
        auto& s = share_.sections;
        s.micro_batches = whole_.micro_batches;
        s.count = std::max(whole_.count, cut_.section + 2);
        s.pipeline.emplace();
        s.pipeline->section = cut_.section;
        name_pieces();
        for (auto const& [v, place] : whole_.place)
            if (source_of(*v.node)) s.place[v] = place;
        for (auto const& n : order_) {
            bool here = makes_.at(n.get()).contains(me_);
            if (parts_.contains(n.get())) make_parts(n);
            if (here && !(in_loop(*n) && !staged(*n))) make(n);
            for (auto const& v : values_of(n)) pass_on(v);
        }
        auto outputs = whole_.graph.outputs;
        for (auto& o : outputs) o.value = at(o.value, -1);
        std::vector<Update> updates;
        for (auto const& u : whole_.graph.updates)
            if (presence_of(u).contains(me_)) updates.push_back({u.variable, at(u.value, -1)});
        s.graph = Graph::of(std::move(outputs), std::move(updates), {}, std::move(effects_));
        order_visits();
    }

    /// The rank's slots, and among them the starts of messages that come, in the order in which they are
    /// sent, no later than one slot before they are read; and the waits for those that go, once the other
    /// side has taken them by unit times.
    void order_visits() {
        auto& visits = share_.sections.pipeline->visits;
        auto const& row = order_of_slots_.row(me_);
        struct Coming {
            std::size_t message;
            int micro, sent, read;  // slots in the order of all
            std::size_t value;
        };
        std::map<int, std::vector<Coming>> lanes;  // by the rank that sends
        struct Going {
            int taken, piece, micro;
        };
        std::vector<Going> going;
        for (std::size_t i = 0; i < messages_.size(); ++i) {
            auto const& m = messages_[i];
            if (!m.looped || (m.to != me_ && m.from != me_)) continue;
            for (int micro = 0; micro < schedule_.micro_batches; ++micro) {
                int sent = order_of_slots_.of(m.made, micro);
                int read = order_of_slots_.of(m.read, micro);
                if (m.to == me_) lanes[m.from].push_back({i, micro, sent, read, i});
                else going.push_back({read, m.waits, micro});
            }
        }
        for (auto& [from, lane] : lanes)
            std::sort(lane.begin(), lane.end(), [](Coming const& a, Coming const& b) {
                return std::pair(a.sent, a.value) < std::pair(b.sent, b.value);
            });
        std::sort(going.begin(), going.end(), [](Going const& a, Going const& b) {
            return std::tuple(a.taken, a.piece, a.micro) < std::tuple(b.taken, b.piece, b.micro);
        });
        std::map<int, std::size_t> posted;
        std::size_t settled = 0;
        for (std::size_t i = 0; i < row.size(); ++i) {
            auto const& slot = row[i];
            int now = order_of_slots_.of(slot);
            while (settled < going.size() && going[settled].taken < now) {
                visits.push_back({going[settled].piece, going[settled].micro});
                ++settled;
            }
            auto const& ahead = row[std::min(i + 1, row.size() - 1)];
            int soon = order_of_slots_.of(ahead);
            for (auto& [from, lane] : lanes) {
                std::size_t last = posted[from];
                for (std::size_t k = last; k < lane.size(); ++k)
                    if (lane[k].read <= soon) last = k + 1;
                for (auto& k = posted[from]; k < last; ++k)
                    visits.push_back({messages_[lane[k].message].post, lane[k].micro});
            }
            visits.push_back({piece_of(slot), slot.micro});
        }
        for (; settled < going.size(); ++settled)
            visits.push_back({going[settled].piece, going[settled].micro});
    }

    int part_edges_ = 0;
    std::map<std::pair<int, int>, int> pieces_;  // (work, stage)
    std::unordered_multimap<Node const*, std::size_t> by_value_;
    ValueMap<Value> here_;
    std::map<std::pair<Node const*, int>, std::shared_ptr<Node const>> again_;
    std::unordered_map<Node const*, std::vector<Value>> parts_here_;
    std::vector<Value> effects_;
    PipelineShare share_;
};

}  // namespace detail

PLAIT_INLINE std::string piece_name(Work work, int stage) {
    return fmt::format("stage {} {}", stage, letter_of(work));
}

PLAIT_INLINE std::optional<Slot> slot_of_piece(std::string_view name) {
    constexpr std::string_view stage = "stage ";
    if (!name.starts_with(stage)) return {};
    Slot slot;
    auto const* last = name.data() + name.size();
    auto [end, error] = std::from_chars(name.data() + stage.size(), last, slot.stage);
    if (error != std::errc() || last - end != 2) return {};
    for (auto work : all_work)
        if (letter_of(work) == end[1]) slot.work = work;
    return slot;
}

PLAIT_INLINE std::pair<Shape, Placement> block_of(Variable const& v, Layout const& layout, Mesh const& mesh,
                                                  Holders const& holders) {
    auto it = holders.find(&v);
    if (it == holders.end() || it->second.contains(mesh.axis("pipeline").coordinate))
        return block_of(v.meta.shape, layout, mesh);
    Shape shape = v.meta.shape;
    shape[0] = 0;
    Placement place{Shape(), v.meta.shape};
    for (int d = 0; d < shape.rank(); ++d) place.origin.push_back(0);
    return {shape, place};
}

PLAIT_INLINE PipelineShare share_pipeline(Sections const& whole, StageCut const& cut,
                                          Schedule const& schedule, int rank,
                                          std::vector<std::shared_ptr<Variable>> const& variables) {
    return detail::PipelineSplitter(whole, cut, schedule, rank, variables).run();
}

}  // namespace plait
