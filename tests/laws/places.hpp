#pragma once

#include "plait/core/random.hpp"
#include "plait/exec/program.hpp"
#include "plait/exec/state.hpp"
#include "plait/graph/collective.hpp"
#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"
#include "plait/graph/source.hpp"
#include "plait/ops/view.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

/// Runs programs on symbols: what a kernel writes is named by the op and the symbols it read. A value that
/// was overwritten before its last read, or read elsewhere than written, gives other symbols in the end than
/// the same sections run with a place of its own for each value. Nothing is shared with the memory plan.
namespace tests {

using namespace plait;

/// Bytes [offset, offset + bytes) of the output called `symbol`.
struct Piece {
    std::uint64_t symbol = 0;
    std::int64_t offset = 0, bytes = 0;
    bool operator==(Piece const&) const = default;
};
/// What a tensor's bytes hold, in order; neighbours of one symbol are one piece.
using Parts = std::vector<Piece>;

inline void append(Parts& to, Piece const& p) {
    if (p.bytes == 0) return;
    bool goes_on =
        !to.empty() && to.back().symbol == p.symbol && to.back().offset + to.back().bytes == p.offset;
    if (goes_on) to.back().bytes += p.bytes;
    else to.push_back(p);
}

inline Parts slice(Parts const& of, std::int64_t offset, std::int64_t bytes) {
    Parts out;
    std::int64_t at = 0;
    for (auto const& p : of) {
        auto from = std::max(at, offset), to = std::min(at + p.bytes, offset + bytes);
        if (from < to) append(out, {p.symbol, p.offset + from - at, to - from});
        at += p.bytes;
    }
    return out;
}

inline std::uint64_t symbol_of(std::string const& what, std::vector<Parts> const& read, std::int64_t number) {
    auto hash = mix(hash_name(what) ^ mix(static_cast<std::uint64_t>(number)));
    for (auto const& parts : read) {
        hash = mix(hash + 1);
        for (auto const& p : parts)
            hash = mix(hash ^ mix(p.symbol ^ mix(static_cast<std::uint64_t>(p.offset) * 31 + 7) ^
                                  static_cast<std::uint64_t>(p.bytes)));
    }
    return hash;
}

inline Parts whole(std::uint64_t symbol, std::int64_t bytes) {
    Parts p;
    append(p, {symbol, 0, bytes});
    return p;
}
/// Names sources: a variable by its place, others by their number among those of one kind and label.
class SourceNames {
  public:
    explicit SourceNames(StateOffset const& state_offset) : state_offset_(state_offset) {}
    Parts parts(Source const& s) { return parts(s, s.meta.bytes()); }
    /// Of a variable that is kept in blocks.
    Parts parts(Source const& s, std::int64_t bytes) {
        auto who = std::string(name_of(s.kind)) + " " + s.label;
        auto variable = s.variable.lock();
        auto number = variable ? state_offset_(*variable) : seen_[who]++;
        return whole(symbol_of(who, {}, number), bytes);
    }

  private:
    StateOffset const& state_offset_;
    std::map<std::string, std::int64_t> seen_;
};
inline Parts added(Parts const& total, Parts const& x, std::int64_t bytes) {
    return whole(symbol_of("running total", {total, x}, 0), bytes);
}

/// Output `o` of a kernel in micro-batch `micro`.
inline Parts result_of(AnyOp const& op, std::vector<Parts> const& in, int o, int micro, std::int64_t bytes) {
    return whole(symbol_of(op.text(), in, micro * 64 + o), bytes);
}

/// The inputs that an op only takes the shape of; nothing is read there.
inline std::vector<bool> unread(AnyOp const& op, Metas const& in) {
    auto like = op.rule(in).like;
    like.resize(in.size(), false);
    return like;
}
/// What the results and the variables hold after a step, and messages when they go, by name.
using Ends = std::map<std::string, Parts>;

inline std::string message_name(Send const& message, int micro) {
    return fmt::format("message {} of micro-batch {}", message.edge, micro);
}

/// Every value in a place of its own.
inline Ends run_sections(Sections const& sections, StateOffset const& state_offset) {
    ValueMap<Parts> now;
    Ends ends;
    SourceNames names(state_offset);
    for (auto const& n : sections.graph.nodes)
        if (auto const* s = source_of(*n)) now[{n, 0}] = names.parts(*s);
    auto run = [&](std::shared_ptr<Node const> const& node, int micro) {
        Node const& n = *node;
        std::vector<Parts> in;
        Metas metas;
        for (auto const& v : n.inputs) metas.push_back(v.meta());
        auto skip = unread(n.op, metas);
        for (std::size_t i = 0; i < n.inputs.size(); ++i)
            in.push_back(skip[i] ? Parts{} : now.at(n.inputs[i]));
        auto bytes = n.outputs[0].bytes();
        auto& first = now[{node, 0}];
        auto const* take = n.op.as<MicroTake>();
        auto const* stack = n.op.as<MicroStack>();
        auto const* part = n.op.as<plait::Part>();
        auto const* join = n.op.as<Join>();
        if (auto const* message = n.op.as<Send>()) ends[message_name(*message, micro)] = in[0];
        if (take && take->dim == 0) {
            first = slice(in[0], micro * bytes, bytes);
        } else if (part && part->dim == 0) {
            first = slice(in[0], part->length ? bytes / part->length * part->start : 0, bytes);
        } else if (join && join->dim == 0) {
            first.clear();
            for (auto const& x : in)
                for (auto const& p : x) append(first, p);
        } else if (n.op.as<MicroTree>()) {
            // A link more, and the left sides that wait.
            auto& pending = now[{node, 1}];
            for (auto const* old : {&first, &pending}) in.push_back(micro ? *old : Parts{});
            auto total = result_of(n.op, in, 0, micro, bytes);
            pending = result_of(n.op, in, 1, micro, n.outputs[1].bytes());
            now[{node, 0}] = total;
        } else if (n.op.as<MicroSum>()) {
            first = micro ? added(first, in[0], bytes) : in[0];
        } else if (stack && stack->dim == 0) {
            if (!micro) first.clear();
            for (auto const& p : in[0]) append(first, p);
        } else if (n.inputs.size() == 1 && !n.op.aliases().empty() && n.op.aliases()[0].view) {
            first = in[0];
        } else {
            if (stack) in.push_back(micro ? first : Parts{});
            for (int o = 0; o < static_cast<int>(n.outputs.size()); ++o)
                now[{node, o}] =
                    result_of(n.op, in, o, micro, n.outputs[static_cast<std::size_t>(o)].bytes());
        }
    };
    for (int s = 0; s < sections.count; ++s)
        for (int micro = 0; micro < (s % 2 ? sections.micro_batches : 1); ++micro)
            for (auto const& n : sections.graph.nodes)
                if (!source_of(*n) && sections.section.at(n.get()) == s) run(n, micro);
    for (auto const& o : sections.graph.outputs) ends["result " + o.name] = now.at(o.value);
    for (auto const& u : sections.graph.updates)
        ends["variable " + source_of(*u.variable.node)->variable.lock()->path] = now.at(u.value);
    return ends;
}

/// A region of memory that holds symbols.
class SymbolMemory {
  public:
    void write(std::int64_t at, Parts const& parts) {
        std::int64_t end = at;
        for (auto const& p : parts) end += p.bytes;
        clear(at, end);
        for (auto const& p : parts) held_[at] = p, at += p.bytes;
    }
    Parts read(std::int64_t at, std::int64_t bytes) const {
        Parts out;
        auto const end = at + bytes;
        auto it = held_.upper_bound(at);
        if (it != held_.begin()) --it;
        for (; it != held_.end() && it->first < end; ++it) {
            auto const& [from, p] = *it;
            auto begin = std::max(at, from), stop = std::min(end, from + p.bytes);
            if (begin >= stop) continue;
            if (begin > at) append(out, {0, at, begin - at});  // never written
            append(out, {p.symbol, p.offset + begin - from, stop - begin});
            at = stop;
        }
        if (at < end) append(out, {0, at, end - at});
        return out;
    }

  private:
    void clear(std::int64_t begin, std::int64_t end) {
        auto it = held_.upper_bound(begin);
        if (it != held_.begin()) --it;
        while (it != held_.end() && it->first < end) {
            auto [from, p] = *it;
            auto const stop = from + p.bytes;
            if (stop <= begin) {
                ++it;
                continue;
            }
            it = held_.erase(it);
            if (from < begin) held_[from] = {p.symbol, p.offset, begin - from};
            if (stop > end) held_[end] = {p.symbol, p.offset + end - from, stop - end};
            it = held_.upper_bound(begin);
        }
    }
    std::map<std::int64_t, Piece> held_;
};

/// Runs a program on symbols, and notes what is wrong with its places on the way.
class SymbolRun {
  public:
    SymbolRun(Program const& program, std::int64_t state_bytes)
        : program_(program), state_bytes_(state_bytes) {}

    /// Over the variables of `state`, which knows what it keeps of each.
    Ends run(State const& state, StateOffset const& state_offset);
    std::vector<std::string> const& faults() const { return faults_; }

  private:
    struct Range {
        Region region;
        std::int64_t begin, end;
        bool operator==(Range const&) const = default;
        bool overlaps(Range const& o) const { return region == o.region && begin < o.end && o.begin < end; }
    };
    Range range_of(Operand const& o, int micro) const {
        auto begin = o.offset + micro * o.micro_stride;
        if (o.copies >= 0)
            begin +=
                o.copy_stride *
                program_.copies[static_cast<std::size_t>(o.copies)].of_micro[static_cast<std::size_t>(micro)];
        return {o.region, begin, begin + o.meta.bytes()};
    }
    void check_inside(std::string const& who, Range const& r) {
        auto limit = r.region == Region::state ? state_bytes_ : program_.scratch_bytes;
        if (r.begin < 0 || r.end > limit)
            faults_.push_back(fmt::format("{}: [{}, {}) is outside of {} bytes", who, r.begin, r.end, limit));
    }
    SymbolMemory& memory(Region r) { return r == Region::state ? state_ : scratch_; }
    Parts read(Range const& r) { return memory(r.region).read(r.begin, r.end - r.begin); }
    void check_overlaps(std::string const& who, Instruction const& i, std::vector<Range> const& in,
                        std::vector<Range> const& out, Range const& workspace);
    void call(int index, int micro);
    void begin(std::string const& who, Instruction const& i, int micro, Range const& in, Range const& out,
               Parts result);
    void end(std::string const& who, int number, int micro);

    /// A collective on its way: what it reads must stay, and what it writes is nobody's.
    struct Flight {
        Range in, out;
        Parts read, poison, result;
    };
    std::map<std::pair<int, int>, Flight> flights_;  // by number and micro-batch
    Ends sent_;
    Program const& program_;
    std::int64_t state_bytes_;
    SymbolMemory state_, scratch_;
    std::vector<std::string> faults_;
};

inline void SymbolRun::check_overlaps(std::string const& who, Instruction const& i,
                                      std::vector<Range> const& in, std::vector<Range> const& out,
                                      Range const& workspace) {
    auto aliased = [&](std::size_t o, Range const& r) {
        for (auto const& a : i.op.aliases())
            if (a.output == static_cast<int>(o) && in[static_cast<std::size_t>(a.input)] == r)
                return r == out[o];
        return false;
    };
    for (std::size_t o = 0; o < out.size(); ++o) {
        // A gather's own block, or a reduction's result, may lie in its place in the whole.
        auto in_place = [&](Range const& r) {
            auto const& [block, whole] =
                r.end - r.begin < out[o].end - out[o].begin ? std::pair{r, out[o]} : std::pair{out[o], r};
            return i.op.as<AllGather>() && whole.begin <= block.begin && block.end <= whole.end &&
                   (block.begin - whole.begin) ==
                       i.op.as<AllGather>()->coordinate * (block.end - block.begin);
        };
        for (auto const& r : in)
            if (r.overlaps(out[o]) && !aliased(o, r) && !in_place(r))
                faults_.push_back(fmt::format("{}: output {} lies on an input", who, o));
        for (std::size_t other = 0; other < o; ++other)
            if (out[o].overlaps(out[other]))
                faults_.push_back(fmt::format("{}: outputs {} and {} overlap", who, other, o));
        if (workspace.overlaps(out[o]))
            faults_.push_back(fmt::format("{}: output {} lies in the workspace", who, o));
    }
    for (auto const& r : in)
        if (workspace.overlaps(r)) faults_.push_back(fmt::format("{}: an input lies in the workspace", who));
}

inline void SymbolRun::call(int index, int micro) {
    auto const& i = program_.instructions[static_cast<std::size_t>(index)];
    auto who = fmt::format("{} {} ({}), micro-batch {}", index, i.op.name(), i.origin.path, micro);
    if (i.awaits >= 0) return end(who, i.awaits, micro);
    std::vector<Range> in, out;
    std::vector<Parts> values;
    Metas metas;
    for (auto const& o : i.in) metas.push_back(o.meta);
    auto skip = unread(i.op, metas);
    for (std::size_t k = 0; k < i.in.size(); ++k) {
        // What is not read has no place.
        auto const& range = in.emplace_back(skip[k] ? Range{} : range_of(i.in[k], micro));
        if (!skip[k]) check_inside(who, range);
        values.push_back(skip[k] ? Parts{} : read(range));
    }
    for (auto const& o : i.out) check_inside(who, out.emplace_back(range_of(o, micro)));
    Range workspace{Region::scratch, i.workspace, i.workspace + i.workspace_bytes};
    check_inside(who, workspace);
    auto const* stack = i.op.as<MicroStack>();
    if (stack && stack->dim == 0) {
        memory(out[0].region).write(out[0].begin + micro * (in[0].end - in[0].begin), values[0]);
        return;
    }
    check_overlaps(who, i, in, out, workspace);
    if (i.collective)
        return begin(who, i, micro, in.empty() ? Range{} : in[0], out[0],
                     result_of(i.op, values, 0, micro, out[0].end - out[0].begin));
    if (auto const* join = i.op.as<Join>(); join && join->dim == 0) {
        auto at = out[0].begin;
        for (std::size_t k = 0; k < in.size(); at += in[k].end - in[k].begin, ++k)
            memory(out[0].region).write(at, values[k]);
        return;
    }
    if (auto const* part = i.op.as<plait::Part>(); part && part->dim == 0) {
        auto bytes = out[0].end - out[0].begin;
        return memory(out[0].region)
            .write(out[0].begin,
                   slice(values[0], bytes / std::max<std::int64_t>(part->length, 1) * part->start, bytes));
    }
    if (i.op.as<Reshape>()) return memory(out[0].region).write(out[0].begin, values[0]);
    scratch_.write(workspace.begin, whole(symbol_of("workspace", {}, index), i.workspace_bytes));
    std::vector<Parts> old;
    for (auto const& r : out) old.push_back(read(r));
    if (stack) values.push_back(micro ? old[0] : Parts{});
    if (i.op.as<MicroTree>())
        for (auto const& o : old) values.push_back(micro ? o : Parts{});
    for (int o = 0; o < static_cast<int>(out.size()); ++o) {
        auto const& r = out[static_cast<std::size_t>(o)];
        auto bytes = r.end - r.begin;
        auto result = i.op.as<MicroSum>() ? values[0] : result_of(i.op, values, o, micro, bytes);
        if (micro && i.accumulate >> o & 1u) result = added(old[static_cast<std::size_t>(o)], result, bytes);
        memory(r.region).write(r.begin, result);
    }
}

inline void SymbolRun::begin(std::string const& who, Instruction const& i, int micro, Range const& in,
                             Range const& out, Parts result) {
    std::pair const key(i.collective->number, micro);
    if (flights_.contains(key)) faults_.push_back(who + ": it is on its way already");
    auto poison = whole(symbol_of("on its way", {}, key.first), out.end - out.begin);
    memory(out.region).write(out.begin, poison);
    flights_[key] = {in, out, read(in), poison, std::move(result)};
    if (auto const* message = i.op.as<Send>()) sent_[message_name(*message, micro)] = read(in);
}

inline void SymbolRun::end(std::string const& who, int number, int micro) {
    auto it = flights_.find({number, micro});
    if (it == flights_.end()) return faults_.push_back(who + ": nothing is on its way");
    auto const& f = it->second;
    if (read(f.in) != f.read) faults_.push_back(who + ": what it reads was overwritten on the way");
    if (read(f.out) != f.poison) faults_.push_back(who + ": what it writes was used on the way");
    memory(f.out.region).write(f.out.begin, f.result);
    flights_.erase(it);
}

inline Ends SymbolRun::run(State const& state, StateOffset const& state_offset) {
    auto const& variables = state.variables();
    auto place = [&](Operand const& o, Parts const& parts) {
        check_inside("an input", range_of(o, 0));
        memory(o.region).write(o.offset, parts);
    };
    SourceNames names(state_offset);
    for (auto const& v : variables)
        state_.write(state_offset(*v), names.parts(*source_of(*v->source.node), state.block_of(*v).bytes()));
    for (auto const* list : {&program_.batch, &program_.feeds, &program_.constants})
        for (auto const& i : *list) place(i.at, names.parts(i.source));
    for (auto const& visit : program_.visits) {
        auto const& piece = program_.pieces[static_cast<std::size_t>(visit.piece)];
        for (int i = piece.first; i < piece.last; ++i) call(i, visit.micro);
    }
    Ends ends = sent_;
    for (auto const& r : program_.results) ends["result " + r.name] = read(range_of(r.at, 0));
    for (auto const& v : variables)
        ends["variable " + v->path] = state_.read(state_offset(*v), state.block_of(*v).bytes());
    for (auto const& [key, f] : flights_) faults_.push_back(fmt::format("{} is never awaited", key.first));
    return ends;
}

}  // namespace tests
