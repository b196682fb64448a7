#pragma once

#include "plait/train/agreement.hpp"
#include "plait/train/metrics.hpp"
#include "plait/train/trace_file.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace plait {
namespace detail {

/// One rank's events as text.
class TraceWriter {
  public:
    TraceWriter(Program const& program, Mesh const& mesh, TraceLog const& log, std::int64_t origin)
        : program_(program), mesh_(mesh), log_(log), origin_(origin) {
        auto const& axes = mesh.axes();
        auto axis =
            std::find_if(axes.begin(), axes.end(), [](auto const& a) { return a.name == "pipeline"; });
        int stride = 1;
        for (auto a = axis + 1; a != axes.end(); ++a) stride *= a->size;
        coordinate_ = axis->coordinate;
        line_ = mesh.place() - coordinate_ * stride;
        for (auto const& i : program.instructions)
            if (i.collective) started_.push_back(&i);
        std::sort(started_.begin(), started_.end(),
                  [](auto const* a, auto const* b) { return a->collective->number < b->collective->number; });
    }

    std::string run() {
        std::string place;
        for (auto const& a : mesh_.axes())
            if (a.size > 1) place += fmt::format("{} {}={}", place.empty() ? ":" : ",", a.name, a.coordinate);
        name("process_name", 0, fmt::format("rank {}{}", mesh_.rank(), place));
        row(R"("name": "process_sort_index", "ph": "M", "tid": 0, "args": {{"sort_index": {}}})",
            mesh_.rank());
        name("thread_name", 0, "work");
        std::vector<TraceLog::Event const*> transfers;
        for (auto const& e : log_.events) {
            if (e.what == TraceLog::What::transfer) transfers.push_back(&e);
            else event(e);
        }
        add_transfers(std::move(transfers));
        return std::move(text_);
    }

  private:
    template <class... Args>
    void row(fmt::format_string<Args...> format, Args&&... args) {
        text_ += fmt::format("{}{{\"pid\": {}, {}}}", text_.empty() ? "" : ",\n", mesh_.rank(),
                             fmt::format(format, std::forward<Args>(args)...));
    }
    void name(std::string_view what, int thread, std::string const& name) {
        row(R"("name": "{}", "ph": "M", "tid": {}, "args": {{"name": {}}})", what, thread, json_string(name));
    }
    static std::string microseconds(std::int64_t ns) { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }
    std::string at(std::int64_t time) const {
        return microseconds(std::max<std::int64_t>(time - origin_, 0));
    }
    void span(TraceLog::Event const& e, int thread, std::string const& name, std::string_view category,
              std::string const& more) {
        row(R"("name": {}, "cat": "{}", "ph": "X", "tid": {}, "ts": {}, "dur": {}, "args": {{{}}})",
            json_string(name), category, thread, at(e.start), microseconds(e.end - e.start), more);
    }
    Instruction const& instruction(std::int64_t number) const {
        return program_.instructions[static_cast<std::size_t>(number)];
    }

    void event(TraceLog::Event const& e) {
        if (e.what == TraceLog::What::step) {
            span(e, 0, fmt::format("step {}", e.index), "step", "");
            ++steps_;
        } else if (e.what == TraceLog::What::visit) {
            auto const piece = program_.visits[static_cast<std::size_t>(e.index)].piece;
            span(e, 0, program_.pieces[static_cast<std::size_t>(piece)].name, "piece",
                 fmt::format(R"("micro": {}, "visit": {})", e.micro, e.index));
        } else {
            auto const& i = instruction(e.index);
            std::string name(i.op.name());
            auto const* awaited = i.awaits >= 0 ? started_[static_cast<std::size_t>(i.awaits)] : nullptr;
            if (awaited) name += " " + std::string(name_of(awaited->collective->verb));
            span(e, 0, name, name_of(i.origin.phase),
                 fmt::format(R"("module": {}, "phase": "{}", "micro": {}, "instruction": {})",
                             json_string(i.origin.path), name_of(i.origin.phase), e.micro, e.index));
            if (i.collective && i.collective->verb == Verb::send)
                arrow("s", *i.collective, coordinate_, i.collective->peer, e.micro, e.start);
            // An arrow ends inside of the wait, so that it is bound to it.
            if (awaited && awaited->collective->verb == Verb::recv)
                arrow("f", *awaited->collective, awaited->collective->peer, coordinate_, e.micro,
                      std::max(e.start, e.end - 1));
        }
    }

    void arrow(std::string_view phase, Collective const& message, int from, int to, int micro,
               std::int64_t time) {
        row(R"("name": "message", "cat": "message", "ph": "{}", "bp": "e", "id": "{}.{}.{}-{}.{}.{}", "tid": 0, "ts": {})",
            phase, steps_, line_, from, to, message.site, micro, at(time));
    }

    void add_transfers(std::vector<TraceLog::Event const*> transfers) {
        std::stable_sort(transfers.begin(), transfers.end(),
                         [](auto const* a, auto const* b) { return a->start < b->start; });
        std::vector<std::int64_t> ends;  // of what each thread has
        for (auto const* e : transfers) {
            auto free = std::find_if(ends.begin(), ends.end(), [&](auto end) { return end <= e->start; });
            int const thread = 1 + static_cast<int>(free - ends.begin());
            if (free == ends.end()) {
                name("thread_name", thread,
                     thread == 1 ? "communication" : fmt::format("communication {}", thread));
                ends.push_back(e->end);
            } else {
                *free = e->end;
            }
            auto const& i = instruction(e->index);
            auto const& c = *i.collective;
            auto const what = c.verb == Verb::send   ? fmt::format("send to {}", c.peer)
                              : c.verb == Verb::recv ? fmt::format("receive from {}", c.peer)
                                                     : fmt::format("{} {}", name_of(c.verb), c.axis);
            auto const& moved = i.in.empty() ? i.out : i.in;
            span(*e, thread, what, "communication",
                 fmt::format(R"("module": {}, "micro": {}, "bytes": {}, "waited_us": {}, "instruction": {})",
                             json_string(i.origin.path), e->micro, moved.front().meta.bytes(),
                             microseconds(e->end - e->wait), e->index));
        }
    }

    Program const& program_;
    Mesh const& mesh_;
    TraceLog const& log_;
    std::int64_t origin_;
    int coordinate_ = 0, line_ = 0;            // along the pipeline axis; the place with coordinate 0 there
    std::vector<Instruction const*> started_;  // by number of the collective
    int steps_ = 0;
    std::string text_;
};

}  // namespace detail

PLAIT_INLINE std::int64_t trace_origin(Communicator& world) {
    constexpr std::size_t rounds = 16;
    std::array<std::int64_t, 2 * rounds> mine;  // when this rank came to each barrier, and when it left
    for (std::size_t i = 0; i < rounds; ++i) {
        mine[2 * i] = TraceLog::now();
        world.barrier().wait();
        mine[2 * i + 1] = TraceLog::now();
    }
    auto const all = gather_numbers(world, std::span<std::int64_t const>(mine));
    // Nobody leaves a barrier before all have come: that bounds what this clock is ahead of rank 0's.
    auto least = std::numeric_limits<std::int64_t>::min(), most = std::numeric_limits<std::int64_t>::max();
    for (std::size_t i = 0; i < rounds; ++i) {
        least = std::max(least, mine[2 * i] - all[2 * i + 1]);
        most = std::min(most, mine[2 * i + 1] - all[2 * i]);
    }
    // One clock is not bent by what barriers take.
    auto const ahead = least <= 0 && 0 <= most ? 0 : least + (most - least) / 2;
    return all[2 * rounds - 2] + ahead;
}

PLAIT_INLINE std::string trace_rows(Program const& program, Mesh const& mesh, TraceLog const& log,
                                    std::int64_t origin) {
    return detail::TraceWriter(program, mesh, log, origin).run();
}

PLAIT_INLINE std::string trace_json(std::vector<std::string> const& rows) {
    std::string text = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
    for (std::size_t i = 0; i < rows.size(); ++i) text += (i ? ",\n" : "") + rows[i];
    return text + "\n]}\n";
}

}  // namespace plait
