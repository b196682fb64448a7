#ifdef PLAIT_HAS_JSON

#include "plait/train/saving.hpp"

#include <chrono>
#include <cmath>
#include <cstring>
#include <sstream>

#include "plait/core/dtype.hpp"

namespace plait {
namespace {

/// A file a line: bytes, hash or "-", name; and a line for each of its tensors, after a tab: hash, name.
std::string files_text(std::vector<Manifest::File> const& files) {
    std::string text;
    for (auto const& f : files) {
        text += fmt::format("{} {} {}\n", f.bytes, f.xxh64.value_or("-"), f.name);
        for (auto const& [name, hash] : f.tensors) text += fmt::format("\t{} {}\n", hash, name);
    }
    return text;
}

std::vector<Manifest::File> parse_files(std::string const& text) {
    std::vector<Manifest::File> files;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::string hash, name;
        if (line.starts_with('\t')) {
            if (words >> hash && std::getline(words >> std::ws, name)) files.back().tensors[name] = hash;
            continue;
        }
        std::int64_t bytes = 0;
        if (words >> bytes >> hash && std::getline(words >> std::ws, name))
            files.push_back({name, bytes, hash == "-" ? std::nullopt : std::optional(hash), {}});
    }
    return files;
}

std::vector<NamedArray> arrays_of(State const& state, bool parameters, SharedState const* writer = nullptr) {
    std::vector<NamedArray> arrays;
    for (auto const& v : state.variables()) {
        if ((v->kind == VariableKind::parameter) != parameters || (writer && !writer->writes(*v))) continue;
        auto const& block = state.block_of(*v);
        if (writer && block.elements() == 0) continue;  // of another stage
        arrays.push_back({v->path,
                          block,
                          {state.memory() + state.offset_of(*v), static_cast<std::size_t>(block.bytes())},
                          state.place_of(*v),
                          v->rows});
    }
    return arrays;
}

template <class T>
void check_finite(NamedArray const& a) {
    auto const* x = reinterpret_cast<T const*>(a.bytes.data());
    auto const n = a.bytes.size() / sizeof(T);
    for (std::size_t i = 0; i < n; ++i)
        check(std::isfinite(static_cast<double>(static_cast<float>(x[i]))),
              "parameter '{}' is not finite at element {}{}", a.name, i,
              a.place.logical.empty() ? "" : " of the block at " + to_string(a.place.origin));
}

void check_finite(std::vector<NamedArray> const& weights) {
    for (auto const& a : weights) {
        if (a.meta.dtype == f32) check_finite<float>(a);
        else if (a.meta.dtype == bf16) check_finite<Bf16>(a);
        else if (a.meta.dtype == f64) check_finite<double>(a);
    }
}

/// Runs load(arrays) on blocks of the state, or on memory of the host that is then taken to the device.
template <class F>
void load_into(State const& state, std::vector<NamedArray> arrays, F const& load) {
    if (state.backend().shares_memory()) return load(arrays);
    std::size_t bytes = 0;
    for (auto const& a : arrays) bytes += a.bytes.size();
    std::vector<std::byte> memory(bytes);
    std::vector<std::byte*> places;
    auto* next = memory.data();
    for (auto& a : arrays) {
        places.push_back(a.bytes.data());
        a.bytes = {std::exchange(next, next + a.bytes.size()), a.bytes.size()};
    }
    load(arrays);
    for (std::size_t i = 0; i < arrays.size(); ++i) state.backend().write(places[i], arrays[i].bytes);
}

/// Removes what lies aside where f fails.
template <class F>
void or_abandon(SharedState const& shared, std::filesystem::path const& run_folder, F const& f) {
    try {
        together(shared.world(), f);
    } catch (Error const&) {
        if (shared.world().rank() == 0) abandon_checkpoint(run_folder);
        throw;
    }
}

}  // namespace

std::vector<NamedArray> parameter_arrays(State const& state) { return arrays_of(state, true); }
std::vector<NamedArray> non_parameter_arrays(State const& state) { return arrays_of(state, false); }

std::optional<Checkpoint> share_checkpoint(Communicator& world, std::optional<Checkpoint> const& found) {
    auto const folder = broadcast_text(world, found ? found->folder.string() : "");
    if (folder.empty()) return {};
    auto const files = broadcast_text(world, found ? files_text(found->manifest.files) : "");
    Manifest manifest = found ? found->manifest : Manifest{};
    std::int64_t numbers[] = {manifest.step, static_cast<std::int64_t>(manifest.seed), manifest.data_cursor,
                              manifest.tokens, std::ssize(manifest.strings)};
    world.broadcast(std::span(numbers), 0).wait();
    std::map<std::string, std::string> strings;
    auto it = manifest.strings.begin();
    for (std::int64_t i = 0; i < numbers[4]; ++i) {
        bool const mine = it != manifest.strings.end();
        auto key = broadcast_text(world, mine ? it->first : "");
        strings[key] = broadcast_text(world, mine ? it->second : "");
        if (mine) ++it;
    }
    if (world.rank() == 0) return found;
    manifest.step = numbers[0];
    manifest.seed = static_cast<std::uint64_t>(numbers[1]);
    manifest.data_cursor = numbers[2];
    manifest.tokens = numbers[3];
    manifest.strings = std::move(strings);
    manifest.files = parse_files(files);
    return Checkpoint{folder, std::move(manifest)};
}

void restore_checkpoint(SharedState const& shared, Checkpoint const& checkpoint) {
    together(shared.world(), [&] {
        load_into(shared.state(), parameter_arrays(shared.state()),
                  [&](auto const& arrays) { checkpoint.copy_weights_to(arrays); });
        load_into(shared.state(), non_parameter_arrays(shared.state()),
                  [&](auto const& arrays) { checkpoint.copy_optimizer_to(arrays); });
    });
}

CheckpointSaver::CheckpointSaver(SharedState const& shared, std::filesystem::path const& run_folder,
                                 From from)
    : shared_(shared), run_folder_(broadcast_text(shared.world(), run_folder.string())) {
    if (from == From::snapshot) take_snapshot_memory();
}

void CheckpointSaver::take_snapshot_memory() {
    if (snapshot_) return;
    bytes_ = shared_.snapshot_bytes();
    // Zeroed, so that the first save does not stall on the system giving pages.
    together(shared_.world(),
             [&] { snapshot_ = std::make_unique<std::byte[]>(static_cast<std::size_t>(bytes_)); });
}

CheckpointSaver::~CheckpointSaver() {
    if (work_.valid()) work_.wait();
}

void CheckpointSaver::start(Manifest manifest, int keep) {
    if (snapshot_) begin(std::move(manifest), keep, true);
    else start_from_memory(std::move(manifest), keep);
}
void CheckpointSaver::start_from_memory(Manifest manifest, int keep) {
    bool const copy = !shared_.state().backend().shares_memory();
    if (copy) take_snapshot_memory();
    begin(std::move(manifest), keep, copy);
}

void CheckpointSaver::begin(Manifest manifest, int keep, bool copy) {
    check(!under_way(), "a save is under way: wait for it before the next");
    manifest_ = std::move(manifest);
    keep_ = keep;
    std::string aside;
    or_abandon(shared_, run_folder_, [&] {
        if (first()) aside = begin_checkpoint(run_folder_, manifest_.step).string();
    });
    aside_ = broadcast_text(shared_.world(), aside);
    weights_ = arrays_of(shared_.state(), true, &shared_);
    optimizer_ = arrays_of(shared_.state(), false, &shared_);
    if (copy) copy_blocks();
    stage_ = Stage::parts;
    CheckpointPart const part{shared_.world().rank(), shared_.world().size()};
    work_ = std::async(std::launch::async, [this, part, step = manifest_.step] {
        check_finite(weights_);
        return files_text(write_checkpoint_part(aside_, step, part, weights_, optimizer_));
    });
}

void CheckpointSaver::copy_blocks() {
    // Blocks side by side in both places are copied in one go, which is faster: the state pads them alike.
    std::byte const* from = nullptr;
    std::span<std::byte> run;
    auto copy = [&] {
        if (!run.empty()) shared_.state().backend().read(run, from);
    };
    std::int64_t offset = 0;
    for (auto* arrays : {&weights_, &optimizer_})
        for (auto& a : *arrays) {
            auto const padded = static_cast<std::size_t>(placed_bytes(a.meta));
            auto* const source = a.bytes.data();
            a.bytes = {snapshot_.get() + offset, a.bytes.size()};
            if (run.empty() || from + run.size() != source) {
                copy();
                from = source;
                run = {snapshot_.get() + offset, 0};
            }
            run = {run.data(), run.size() + padded};
            offset += placed_bytes(a.meta);
        }
    copy();
}

bool CheckpointSaver::busy() const {
    return work_.valid() && work_.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
}

std::optional<SaveOutcome> CheckpointSaver::advance() {
    auto& world = shared_.world();
    std::string text;
    auto take = [&] {
        if (work_.valid()) text = work_.get();
    };
    auto fails = [&](std::exception const& e) {
        stage_ = Stage::idle;
        return SaveOutcome{manifest_.step, "", e.what()};
    };
    try {
        or_abandon(shared_, run_folder_, take);
    } catch (AgreedError const& e) {
        return fails(e);
    } catch (AgreedUsageError const& e) {
        return fails(e);
    }
    if (stage_ == Stage::finishing) {
        stage_ = Stage::idle;
        return SaveOutcome{manifest_.step, broadcast_text(world, text), ""};
    }
    stage_ = Stage::finishing;
    std::string all;
    for (auto const& files : gather_texts(world, text)) all += files;
    if (first())
        work_ = std::async(std::launch::async, [this, all = std::move(all)] {
            manifest_.files = parse_files(all);
            return finish_checkpoint(run_folder_, aside_, manifest_, keep_).string();
        });
    return {};
}

std::optional<SaveOutcome> CheckpointSaver::wait() {
    while (under_way()) {
        // In turns with the others, as a rank that waits long for another takes it for lost.
        if (work_.valid()) work_.wait_for(std::chrono::milliseconds(200));
        std::int64_t at_work = busy();
        take_largest(shared_.world(), std::span(&at_work, 1));
        if (at_work) continue;
        if (auto outcome = advance()) return outcome;
    }
    return {};
}

std::filesystem::path save_checkpoint(SharedState const& shared, std::filesystem::path const& run_folder,
                                      Manifest manifest, int keep) {
    CheckpointSaver saver(shared, run_folder, CheckpointSaver::From::memory);
    saver.start(std::move(manifest), keep);
    auto const outcome = saver.wait();
    check<AgreedError>(outcome->error.empty(), "{}", outcome->error);
    return outcome->folder;
}

}  // namespace plait

#endif
