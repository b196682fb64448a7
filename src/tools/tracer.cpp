#include "tracer.hpp"

#include <algorithm>

#include "plait/io/file.hpp"
#include "plait/train/agreement.hpp"
#include "plait/train/progress.hpp"
#include "plait/train/trace_file.hpp"

namespace plait::tools {

Tracer::Tracer(TraceRequest request, Step& step, Communicator& world, std::int64_t first, std::int64_t last)
    : request_(std::move(request)), step_(step), world_(world) {
    constexpr std::int64_t warm_up = 2;
    first_ = std::max(first, std::min(first + warm_up, last - request_.steps + 1));
    last_ = std::min(first_ + request_.steps - 1, last);
}

void Tracer::before(std::int64_t step) {
    // A rollback may come here twice.
    if (done_ || step < first_ || traced_ > 0) return;
    oldest_ = step;
    origin_ = trace_origin(world_);
    step_.trace(&log_);
}

std::optional<std::string> Tracer::after(std::int64_t step) {
    if (done_ || (step < first_ && traced_ == 0)) return {};
    oldest_ = std::min(oldest_, step), newest_ = std::max(newest_, step);
    return ++traced_ == last_ - first_ + 1 ? write() : std::nullopt;
}

std::optional<std::string> Tracer::end() { return done_ || traced_ == 0 ? std::nullopt : write(); }

std::optional<std::string> Tracer::write() {
    done_ = true;
    step_.trace(nullptr);
    auto const rows = gather_texts(world_, trace_rows(step_.program(), step_.mesh(), log_, origin_));
    auto const events = log_.events.size();
    log_ = {};
    if (world_.rank() != 0) return {};
    auto const text = trace_json(rows);
    auto const steps = oldest_ == newest_ ? fmt::format("step {}", newest_)
                                          : fmt::format("steps {} to {}", oldest_, newest_);
    try {
        write_file_atomically(request_.file, text);
    } catch (Error const& e) {
        return fmt::format("trace of {}: {}: training goes on", steps, e.what());
    }
    return fmt::format("trace {}: {}, {} events a rank, {}; open it in ui.perfetto.dev", request_.file, steps,
                       events, bytes_text(static_cast<double>(text.size())));
}

}  // namespace plait::tools
