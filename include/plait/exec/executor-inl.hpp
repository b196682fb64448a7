#pragma once

#include "plait/exec/executor.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace plait {

PLAIT_INLINE std::byte* Scratch::memory() {
    if (held_ < bytes_) {
        memory_.reset();
        memory_ = backend_->allocate(bytes_);
        held_ = bytes_;
    }
    return memory_.get();
}

PLAIT_INLINE Executor::Executor(Program program, std::shared_ptr<State> state,
                                std::shared_ptr<Scratch> scratch, Communicators along)
    : program_(std::move(program)),
      state_(std::move(state)),
      scratch_(std::move(scratch)),
      along_(std::move(along)) {
    scratch_->reserve(program_.scratch_bytes);
}

PLAIT_INLINE std::byte* Executor::address(Operand const& o, int micro) const {
    return (o.region == Region::state ? state_->memory() : scratch_memory_) + o.offset +
           micro * o.micro_stride +
           (o.copies < 0 ? 0
                         : o.copy_stride * program_.copies[static_cast<std::size_t>(o.copies)]
                                               .of_micro[static_cast<std::size_t>(micro)]);
}

PLAIT_INLINE void Executor::bind() {
    scratch_memory_ = scratch_->memory();
    bound_.clear();
    for (auto const& i : program_.instructions) {
        Bound b;
        auto bind_all = [&](std::vector<Operand> const& from, std::vector<Buffer>& to) {
            for (auto const& o : from) {
                Buffer buffer{address(o, 0), o.meta, o.block};
                if (o.micro_dim >= 0 && o.block.logical.empty()) {
                    for (int d = 0; d < o.meta.shape.rank(); ++d) buffer.block.origin.push_back(0);
                    buffer.block.logical = o.meta.shape;
                    buffer.block.logical[o.micro_dim] *= program_.micro_batches;
                }
                b.moves = b.moves || o.micro_dim >= 0 || o.micro_stride || o.copies >= 0;
                to.push_back(std::move(buffer));
            }
        };
        bind_all(i.in, b.in);
        bind_all(i.out, b.out);
        bound_.push_back(std::move(b));
    }
    recording_.reset();
    asked_ = false;
}

PLAIT_INLINE void Executor::start(Instruction const& instruction, std::span<Buffer const> in,
                                  std::span<Buffer const> out, int micro) {
    auto const& c = *instruction.collective;
    auto& along = axes_[c.axis];
    if (!along && along_) along = along_(c.axis);
    check<UsageError>(along != nullptr,
                      "the program's mesh has no ranks along {}: give the plan a mesh of a world", c.axis);
    View to(out[0].data, out[0].meta.elements(), out[0].meta.dtype);
    auto const site = static_cast<std::uint64_t>(c.site) + 1;
    auto& on_its_way = pending(c.number, micro);
    if (c.verb == Verb::recv) {
        on_its_way = along->recv(to, c.peer, site);
        return;
    }
    ConstView from(in[0].data, in[0].meta.elements(), in[0].meta.dtype);
    if (c.verb == Verb::all_reduce) on_its_way = along->all_reduce(from, to, c.how, site);
    else if (c.verb == Verb::reduce_scatter) on_its_way = along->reduce_scatter(from, to, c.how, site);
    else if (c.verb == Verb::all_gather) on_its_way = along->all_gather(from, to, site);
    else on_its_way = along->send(from, c.peer, site);
}

PLAIT_INLINE void Executor::write_inputs(std::map<std::string, Array> const& batch, StepInfo const& at) {
    auto& backend = state_->backend();
    for (auto const& column : program_.batch) {
        auto it = batch.find(column.name);
        check<UsageError>(it != batch.end(), "the batch lacks the column '{}'", column.name);
        check<ShapeError>(it->second.meta() == column.at.meta,
                          "column '{}' of the batch is {}: the program wants {}", column.name,
                          to_string(it->second.meta()), to_string(column.at.meta));
        backend.write(address(column.at, 0), it->second.bytes());
    }
    for (auto const& c : program_.constants) backend.write(address(c.at, 0), c.source.constant.bytes());
    std::byte value[64];
    for (auto const& f : program_.feeds) {
        auto bytes = static_cast<std::size_t>(f.at.meta.bytes());
        check(bytes <= sizeof value, "feed '{}' has {} bytes: at most {}", f.name, bytes, sizeof value);
        f.source.feed(at, value);
        backend.write(address(f.at, 0), {value, bytes});
    }
}

namespace detail {
/// Runs f; an Error of it names the module that the op is of. A fault of a device tells its own place.
template <class F>
void with_path(Origin const& origin, F const& f) {
    try {
        f();
    } catch (DeviceFault const&) {
        throw;
    } catch (Error const& e) {
        fail("{}{}{}", e.what(), origin.path.empty() ? "" : ", in ", origin.path);
    }
}
}  // namespace detail

PLAIT_INLINE void Executor::move(int number, int micro) {
    auto const& instruction = program_.instructions[static_cast<std::size_t>(number)];
    auto& b = bound_[static_cast<std::size_t>(number)];
    if (!b.moves) return;
    auto move_all = [&](std::vector<Operand> const& from, std::vector<Buffer>& to) {
        for (std::size_t o = 0; o < from.size(); ++o) {
            to[o].data = address(from[o], micro);
            if (int d = from[o].micro_dim; d >= 0)
                to[o].block.origin[d] =
                    (from[o].block.origin.empty() ? 0 : from[o].block.origin[d]) + micro * from[o].micro_step;
        }
    };
    move_all(instruction.in, b.in);
    move_all(instruction.out, b.out);
}

PLAIT_INLINE KernelCall Executor::kernel_call(int number, int micro) const {
    auto const& instruction = program_.instructions[static_cast<std::size_t>(number)];
    auto const& b = bound_[static_cast<std::size_t>(number)];
    return {.op = &instruction.op,
            .in = b.in,
            .out = b.out,
            .workspace = scratch_memory_ + instruction.workspace,
            .accumulate = micro > 0 ? instruction.accumulate : 0,
            .micro = micro};
}

PLAIT_INLINE void Executor::perform(int number, int micro) {
    auto const& instruction = program_.instructions[static_cast<std::size_t>(number)];
    move(number, micro);
    auto& b = bound_[static_cast<std::size_t>(number)];
    state_->backend().begin(number, instruction.op);
    if (instruction.awaits >= 0) return pending(instruction.awaits, micro).wait();
    if (instruction.collective) return start(instruction, b.in, b.out, micro);
    auto call = kernel_call(number, micro);
    detail::with_path(instruction.origin, [&] { state_->backend().call(*instruction.row, call); });
}

PLAIT_INLINE void Executor::perform_joined(int number, int count, int micro) {
    auto const& instruction = program_.instructions[static_cast<std::size_t>(number)];
    std::vector<KernelCall> calls;
    for (int i = number; i < number + count; ++i) {
        move(i, micro);
        calls.push_back(kernel_call(i, micro));
    }
    state_->backend().begin(number, instruction.op);
    detail::with_path(instruction.origin, [&] { state_->backend().call_many(*instruction.row, calls); });
}

PLAIT_INLINE int Executor::joined(int number, int last, int micro) {
    auto const* row = program_.instructions[static_cast<std::size_t>(number)].row;
    if (!row || !row->run_many) return 1;
    struct Use {
        std::byte const *begin, *end;
        bool written;
    };
    auto uses = [&](int i, bool workspace) {
        std::vector<Use> all;
        move(i, micro);
        auto const& bound = bound_[static_cast<std::size_t>(i)];
        for (auto const& b : bound.in) all.push_back({b.data, b.data + b.meta.bytes(), false});
        for (auto const& b : bound.out) all.push_back({b.data, b.data + b.meta.bytes(), true});
        auto const& instruction = program_.instructions[static_cast<std::size_t>(i)];
        auto const* scratch = scratch_memory_ + instruction.workspace;
        if (workspace && instruction.workspace_bytes)
            all.push_back({scratch, scratch + instruction.workspace_bytes, true});
        return all;
    };
    auto apart = [](std::vector<Use> const& a, std::vector<Use> const& b) {
        for (auto const& x : a)
            for (auto const& y : b)
                if ((x.written || y.written) && x.begin < y.end && y.begin < x.end) return false;
        return true;
    };
    auto taken = uses(number, true);
    int next = number + 1;
    for (; next < last && program_.instructions[static_cast<std::size_t>(next)].row == row; ++next) {
        auto more = uses(next, false);
        bool const room = program_.instructions[static_cast<std::size_t>(next)].workspace_bytes <=
                          program_.instructions[static_cast<std::size_t>(number)].workspace_bytes;
        if (!room || !apart(taken, more)) break;
        taken.insert(taken.end(), more.begin(), more.end());
    }
    return next - number;
}

PLAIT_INLINE void Executor::visit(std::int64_t number) {
    auto const& visit = program_.visits[static_cast<std::size_t>(number)];
    auto const& piece = program_.pieces[static_cast<std::size_t>(visit.piece)];
    auto const begin = now();
    for (int i = piece.first, count = 1; i < piece.last; i += count) {
        auto const from = now();
        count = joined(i, piece.last, visit.micro);
        if (count > 1) perform_joined(i, count, visit.micro);
        else perform(i, visit.micro);
        if (checks_values_)
            for (int k = i; k < i + count; ++k) check_values_of(k);
        if (!log_) continue;
        state_->backend().finish();
        note_instruction(i, visit.micro, from);
    }
    note(TraceLog::What::visit, number, visit.micro, begin);
}

PLAIT_INLINE void Executor::visit_all() {
    for (std::size_t v = 0; v < program_.visits.size(); ++v) visit(static_cast<std::int64_t>(v));
}

PLAIT_INLINE void Executor::record_step() {
    // A wait belongs to the recording that its call belongs to.
    auto settle = [this] {
        for (auto& p : pending_) p.wait();
    };
    settle();
    recorded_traffic_.clear();
    for (auto const& [axis, along] : axes_) {
        bool const known = std::any_of(recorded_traffic_.begin(), recorded_traffic_.end(),
                                       [&, c = along](auto const& one) { return one.first == c; });
        if (!known) recorded_traffic_.emplace_back(along, along->traffic());
    }
    recording_ = state_->backend().record([&] {
        visit_all();
        settle();
    });
    for (auto& [along, rows] : recorded_traffic_) {
        auto const before = std::exchange(rows, along->traffic());
        for (auto& row : rows)
            for (auto const& b : before)
                if (b.verb == row.verb && b.dtype == row.dtype) row.calls -= b.calls, row.bytes -= b.bytes;
    }
}

PLAIT_INLINE void Executor::step() {
    // The first step is never recorded: libraries and communicators take memory at their first calls.
    bool const looked_at = log_ || checks_values_;
    if (!looked_at && recording_) {
        recording_->replay();
        for (auto const& [along, rows] : recorded_traffic_) along->add_traffic(rows);
        return;
    }
    if (!looked_at && asked_ && state_->backend().records()) {
        record_step();
        return recording_->replay();
    }
    visit_all();
    asked_ = true;
}

PLAIT_INLINE void Executor::check_values_of(int number) const {
    auto const& instruction = program_.instructions[static_cast<std::size_t>(number)];
    if (!instruction.row) return;
    for (auto const& b : bound_[static_cast<std::size_t>(number)].out) {
        if (!is_floating(b.meta.dtype)) continue;
        Array values(b.meta);
        state_->backend().read(values.bytes(), b.data);
        for (std::int64_t i = 0; i < b.meta.elements(); ++i)
            check(!std::isnan(values.at(i)), "{}{}{} gives a NaN, at element {} of {}", instruction.op.name(),
                  instruction.origin.path.empty() ? "" : " in ", instruction.origin.path, i,
                  to_string(b.meta));
    }
}

PLAIT_INLINE std::string Executor::where(DeviceFault const& fault) const {
    auto text = [&](int i) {
        auto const& instruction = program_.instructions[static_cast<std::size_t>(i)];
        auto const& path = instruction.origin.path;
        return fmt::format("{}{}{}", instruction.op.name(), path.empty() ? "" : " in ", path);
    };
    auto const last = std::min(fault.last, static_cast<int>(program_.instructions.size()) - 1);
    if (fault.first < 0 || fault.first > last) return "";
    if (fault.first == last) return ": " + text(last);
    return fmt::format(": between {} and {}, instructions {} to {}; --sync names it", text(fault.first),
                       text(last), fault.first, last);
}

PLAIT_INLINE void Executor::prepare_log() {
    started_.resize(pending_.size());
    std::size_t most = 1 + program_.visits.size() + pending_.size();
    for (auto const& v : program_.visits) {
        auto const& piece = program_.pieces[static_cast<std::size_t>(v.piece)];
        most += static_cast<std::size_t>(piece.last - piece.first);
    }
    log_->events.reserve(log_->events.size() + most);
}

PLAIT_INLINE void Executor::note_instruction(int number, int micro, std::int64_t start) {
    auto const& instruction = program_.instructions[static_cast<std::size_t>(number)];
    note(TraceLog::What::instruction, number, micro, start);
    if (instruction.collective) started_[transfer(instruction.collective->number, micro)] = {number, start};
    if (instruction.awaits < 0) return;
    auto const& began = started_[transfer(instruction.awaits, micro)];
    auto const end = log_->events.back().end;
    log_->events.push_back({TraceLog::What::transfer, began.instruction, micro, began.at, end, start});
}

PLAIT_INLINE std::vector<std::pair<std::string, Array>> Executor::run(
    std::map<std::string, Array> const& batch, StepInfo const& at) {
    state_->allocate();
    if (scratch_->memory() != scratch_memory_ || bound_.empty()) bind();
    pending_.resize(static_cast<std::size_t>(program_.collectives) *
                    static_cast<std::size_t>(program_.micro_batches));
    if (log_) prepare_log();

    auto const begin = now();
    std::vector<std::pair<std::string, Array>> results;
    try {
        write_inputs(batch, at);
        step();
        for (auto const& r : program_.results) {
            Array a(r.at.meta);
            state_->backend().read(a.bytes(), address(r.at, 0));
            results.emplace_back(r.name, std::move(a));
        }
    } catch (DeviceFault const& fault) {
        fail("{}{}", fault.what(), where(fault));
    }
    note(TraceLog::What::step, at.step, 0, begin);
    return results;
}

}  // namespace plait
