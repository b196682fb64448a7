#ifdef PLAIT_HAS_JSON

#include "plait/train/saving.hpp"

#include <sstream>

namespace plait {
namespace {

/// A line a file: bytes, hash or "-", name.
std::string files_text(std::vector<Manifest::File> const& files) {
    std::string text;
    for (auto const& f : files) text += fmt::format("{} {} {}\n", f.bytes, f.xxh64.value_or("-"), f.name);
    return text;
}

std::vector<Manifest::File> parse_files(std::string const& text) {
    std::vector<Manifest::File> files;
    std::istringstream in(text);
    std::int64_t bytes = 0;
    for (std::string hash, name; in >> bytes >> hash && std::getline(in >> std::ws, name);)
        files.push_back({name, bytes, hash == "-" ? std::nullopt : std::optional(hash)});
    return files;
}

std::vector<NamedArray> arrays_of(State const& state, bool parameters, SharedState const* writer = nullptr) {
    std::vector<NamedArray> arrays;
    for (auto const& v : state.variables()) {
        if ((v->kind == VariableKind::parameter) != parameters || (writer && !writer->writes(*v))) continue;
        auto const& block = state.block_of(*v);
        arrays.push_back({v->path,
                          block,
                          {state.memory() + state.offset_of(*v), static_cast<std::size_t>(block.bytes())},
                          state.place_of(*v)});
    }
    return arrays;
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
std::vector<NamedArray> optimizer_arrays(State const& state) { return arrays_of(state, false); }

std::optional<Checkpoint> share_checkpoint(Communicator& world, std::optional<Checkpoint> const& found) {
    auto const folder = broadcast_text(world, found ? found->folder.string() : "");
    auto const files = broadcast_text(world, found ? files_text(found->manifest.files) : "");
    std::int64_t step = found ? found->manifest.step : 0;
    world.broadcast(std::span(&step, 1), 0).wait();
    if (world.rank() == 0) return found;
    if (folder.empty()) return {};
    Checkpoint checkpoint{folder, {}};
    checkpoint.manifest.step = step;
    checkpoint.manifest.files = parse_files(files);
    return checkpoint;
}

void restore_checkpoint(SharedState const& shared, Checkpoint const& checkpoint) {
    together(shared.world(), [&] {
        checkpoint.copy_weights_to(parameter_arrays(shared.state()));
        checkpoint.copy_optimizer_to(optimizer_arrays(shared.state()));
    });
}

std::filesystem::path save_checkpoint(SharedState const& shared, std::filesystem::path const& run_folder,
                                      Manifest manifest, int keep) {
    auto& world = shared.world();
    bool const first = world.rank() == 0;
    std::string aside, folder;
    or_abandon(shared, run_folder, [&] {
        if (first) aside = begin_checkpoint(run_folder, manifest.step).string();
    });
    aside = broadcast_text(world, aside);
    std::string files;
    or_abandon(shared, run_folder, [&] {
        files = files_text(write_checkpoint_part(aside, manifest.step, {world.rank(), world.size()},
                                                 arrays_of(shared.state(), true, &shared),
                                                 arrays_of(shared.state(), false, &shared)));
    });
    std::string all;
    for (auto const& text : gather_texts(world, files)) all += text;
    or_abandon(shared, run_folder, [&] {
        if (!first) return;
        manifest.files = parse_files(all);
        folder = finish_checkpoint(run_folder, aside, std::move(manifest), keep).string();
    });
    return broadcast_text(world, folder);
}

}  // namespace plait

#endif
