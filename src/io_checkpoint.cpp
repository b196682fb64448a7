#ifdef PLAIT_HAS_JSON

#include "plait/io/checkpoint.hpp"

#include "io_blocks.hpp"
#include "io_hash.hpp"
#include "io_manifest.hpp"
#include "plait/io/file.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <functional>

namespace plait {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view aside_prefix = ".saving-";
constexpr std::array kinds{detail::weights_kind, detail::optimizer_kind};

std::string folder_name(std::int64_t step) { return fmt::format("step-{:08}", step); }

/// The step of "step-00000020", or nothing.
std::optional<std::int64_t> step_of(std::string const& name) {
    std::int64_t step = 0;
    if (!name.starts_with("step-")) return {};
    auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
    if (error != std::errc{} || end != name.data() + name.size() || step < 0) return {};
    return step;
}

/// Steps that have a folder, highest first.
std::vector<std::pair<std::int64_t, fs::path>> saved_steps(fs::path const& folder) {
    std::vector<std::pair<std::int64_t, fs::path>> found;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
        if (auto step = step_of(it->path().filename().string())) found.emplace_back(*step, it->path());
    check(!error || error == std::errc::no_such_file_or_directory, "cannot read {}: {}", folder.string(),
          error.message());
    std::sort(found.begin(), found.end(), std::greater<>());
    return found;
}

void check_size(fs::path const& path, Manifest::File const& file) {
    std::error_code error;
    auto bytes = fs::file_size(path, error);
    check(!error, "{} is missing or unreadable: {}", path.string(), error.message());
    check(std::cmp_equal(bytes, file.bytes), "{} is truncated or changed: expected {} bytes, has {}",
          path.string(), file.bytes, bytes);
}

/// " in tensor "a"" for the first whose bytes are not those that were written; else it is the header.
std::string damaged_part(fs::path const& path, Manifest::File const& file) {
    if (file.tensors.empty()) return "";
    try {
        SafetensorsFile const now(path);
        for (auto const& entry : now.entries()) {
            ByteHash hash;
            hash.update(entry.bytes);
            auto const it = file.tensors.find(entry.name);
            if (it != file.tensors.end() && hash.digest() != it->second)
                return " in tensor " + detail::shown(entry.name);
        }
    } catch (Error const&) {}  // a header that does not describe the file
    return " in its header";
}

void verify(fs::path const& path, Manifest::File const& file) {
    check_size(path, file);
    if (!file.xxh64 || !ByteHash().digest()) return;

    int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) fail_with_errno("read", path);
    ByteHash hash;
    std::vector<std::byte> block(1 << 20);
    ssize_t n = 0;
    while ((n = ::read(descriptor, block.data(), block.size())) > 0 || (n < 0 && errno == EINTR))
        if (n > 0) hash.update({block.data(), static_cast<std::size_t>(n)});
    int reason = errno;
    ::close(descriptor);
    errno = reason;
    if (n < 0) fail_with_errno("read", path);
    if (hash.digest() == file.xxh64) return;
    fail("{} is damaged{}: expected XXH64 {}, has {}", path.string(), damaged_part(path, file), *file.xxh64,
         *hash.digest());
}

/// Throws Error unless `manifest`, which lies in `folder`, lists every part, and plain names only.
void check_parts(fs::path const& folder, Manifest const& manifest) {
    auto where = (folder / "manifest.json").string();
    for (auto kind : kinds) detail::part_names(where, manifest, kind);
    for (auto const& file : manifest.files)
        check(fs::path(file.name).filename() == file.name, "{} lists the file {}, which is not beside it",
              where, detail::shown(file.name));
}

/// Puts the finished folder `aside` at `place`, where a checkpoint of the same step may already be.
void put_in_place(fs::path const& aside, fs::path const& place) {
    if (::rename(aside.c_str(), place.c_str()) == 0) return;
    if (errno != ENOTEMPTY && errno != EEXIST) fail_with_errno("rename to", place);
    // Exchanging leaves no moment without a checkpoint of this step; the old one is then aside, and removed.
    if (::renameat2(AT_FDCWD, aside.c_str(), AT_FDCWD, place.c_str(), RENAME_EXCHANGE) == 0) return;
    auto old = aside;
    old += ".old";
    if (::rename(place.c_str(), old.c_str()) != 0) fail_with_errno("replace", place);
    if (::rename(aside.c_str(), place.c_str()) != 0) {
        int reason = errno;
        if (::rename(old.c_str(), place.c_str()) == 0) errno = reason;
        fail_with_errno("replace", place);
    }
}

fs::path aside_of(fs::path const& folder, std::int64_t step) {
    return folder / (std::string(aside_prefix) + folder_name(step));
}

void remove_leftovers(fs::path const& folder) {
    std::error_code ignored;
    for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end; it.increment(ignored))
        if (it->path().filename().string().starts_with(aside_prefix)) {
            std::error_code error;
            fs::remove_all(it->path(), error);
        }
}

void check_keep(int keep) {
    check<UsageError>(keep >= 1, "checkpoint.keep is {}: at least 1 must be kept", keep);
}

void prune(fs::path const& folder, std::int64_t saved, int keep) {
    // Newer steps are none of this save's business: a run that went back to an older checkpoint left them.
    int older = 0;
    for (auto const& [step, path] : saved_steps(folder)) {
        if (step >= saved || ++older < keep) continue;
        // Out of the way first, so that a crash while deleting leaves no half checkpoint.
        auto doomed = folder / (std::string(aside_prefix) + "old-" + path.filename().string());
        if (::rename(path.c_str(), doomed.c_str()) != 0) fail_with_errno("remove", path);
        std::error_code error;
        fs::remove_all(doomed, error);
    }
}

void copy_kind(Checkpoint const& c, std::string_view kind, std::span<NamedArray const> arrays) {
    std::vector<SafetensorsFile> files;
    for (auto const& name : detail::part_names((c.folder / "manifest.json").string(), c.manifest, kind))
        files.emplace_back(c.folder / name);
    auto where = files.size() == 1 ? files[0].path() : c.folder;
    detail::copy_blocks(where.string(), files, arrays);
}

}  // namespace

fs::path begin_checkpoint(fs::path const& run_folder, std::int64_t step) {
    check(step >= 0, "a checkpoint's step is {}: steps are not negative", step);
    auto folder = run_folder / "checkpoints";
    make_folder(folder);
    remove_leftovers(folder);
    auto aside = aside_of(folder, step);
    make_folder(aside);
    return aside;
}

std::vector<Manifest::File> write_checkpoint_part(fs::path const& aside, std::int64_t step,
                                                  CheckpointPart part, std::span<NamedArray const> weights,
                                                  std::span<NamedArray const> optimizer) {
    std::vector<Manifest::File> files;
    for (auto kind : kinds) {
        auto name = detail::part_name(kind, part);
        auto written = write_safetensors(aside / name, kind == detail::weights_kind ? weights : optimizer,
                                         {{"step", std::to_string(step)}});
        files.push_back({name, written.bytes, written.xxh64, std::move(written.tensors)});
    }
    return files;
}

fs::path finish_checkpoint(fs::path const& run_folder, fs::path const& aside, Manifest manifest, int keep) {
    check_keep(keep);
    auto folder = run_folder / "checkpoints";
    auto name = folder_name(manifest.step);
    check(aside == aside_of(folder, manifest.step), "{} is not where step {} of {} is written",
          aside.string(), manifest.step, run_folder.string());
    check_parts(aside, manifest);
    // A part that another machine wrote to a disk of its own is missed here, before older checkpoints go.
    for (auto const& file : manifest.files) check_size(aside / file.name, file);
    FileWriter out(aside / "manifest.json");
    out.write(detail::manifest_text(manifest));
    out.finish();
    sync_folder(aside);
    put_in_place(aside, folder / name);
    sync_folder(folder);
    sync_folder(run_folder);
    point_latest({folder / name, {}});
    remove_leftovers(folder);
    prune(folder, manifest.step, keep);
    return folder / name;
}

void point_latest(Checkpoint const& checkpoint) {
    auto const file = checkpoint.folder.parent_path() / "latest";
    write_file_atomically(file, checkpoint.folder.filename().string() + "\n");
}

void abandon_checkpoint(fs::path const& run_folder) noexcept {
    try {
        remove_leftovers(run_folder / "checkpoints");
    } catch (...) {  // out of memory; the next save removes it
    }
}

fs::path save_checkpoint(fs::path const& run_folder, Manifest manifest, std::span<NamedArray const> weights,
                         std::span<NamedArray const> optimizer, int keep) {
    check_keep(keep);
    auto aside = begin_checkpoint(run_folder, manifest.step);
    try {
        manifest.files = write_checkpoint_part(aside, manifest.step, {}, weights, optimizer);
        return finish_checkpoint(run_folder, aside, std::move(manifest), keep);
    } catch (...) {
        abandon_checkpoint(run_folder);  // gives a full disk its space back
        throw;
    }
}

void Checkpoint::copy_weights_to(std::span<NamedArray const> arrays) const {
    copy_kind(*this, detail::weights_kind, arrays);
}

void Checkpoint::copy_optimizer_to(std::span<NamedArray const> arrays) const {
    copy_kind(*this, detail::optimizer_kind, arrays);
}

Checkpoint open_checkpoint(fs::path const& folder) {
    Checkpoint c{folder, detail::read_manifest(folder / "manifest.json")};
    check_parts(folder, c.manifest);
    for (auto const& file : c.manifest.files) verify(folder / file.name, file);
    return c;
}

FoundCheckpoint find_checkpoint(fs::path const& run_folder) {
    FoundCheckpoint found;
    for (auto const& [step, path] : saved_steps(run_folder / "checkpoints")) {
        try {
            auto c = open_checkpoint(path);
            check(c.manifest.step == step, "{} holds step {}", path.string(), c.manifest.step);
            found.checkpoint = std::move(c);
            return found;
        } catch (Error const& e) {
            found.notes.push_back(fmt::format("skipped {}: {}", path.filename().string(), e.what()));
        }
    }
    return found;
}

}  // namespace plait

#endif
