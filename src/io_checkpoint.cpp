#ifdef PLAIT_HAS_JSON

#include "plait/io/checkpoint.hpp"

#include "io_hash.hpp"
#include "plait/io/file.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <functional>

namespace plait {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::string_view aside_prefix = ".saving-";
constexpr std::array<std::string_view, 2> file_names{"weights.safetensors", "optimizer.safetensors"};

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

std::string hash_of(Json const& json) {
    ByteHash hash;
    auto text = json.dump();
    hash.update(std::as_bytes(std::span(text)));
    return hash.digest().value_or("");
}

std::string manifest_text(Manifest const& m) {
    Json files = Json::array();
    for (auto const& f : m.files) {
        Json file{{"name", f.name}, {"bytes", f.bytes}};
        if (f.xxh64) file["xxh64"] = *f.xxh64;
        files.push_back(file);
    }
    Json json{{"format", Manifest::format},
              {"step", m.step},
              {"seed", m.seed},
              {"data_cursor", m.data_cursor},
              {"tokens", m.tokens},
              {"strings", m.strings},
              {"files", files}};
    try {
        // Its own hash catches a changed digit, which is still good JSON.
        if (auto hash = hash_of(json); !hash.empty()) json["xxh64"] = hash;
        return json.dump(2) + "\n";
    } catch (Json::exception const& e) {
        fail("a string of the manifest is not UTF-8: {}", e.what());
    }
}

Manifest read_manifest(fs::path const& path) {
    try {
        auto json = Json::parse(read_file(path));
        check(json.is_object() && json.contains("format"), "{} is not a manifest", path.string());
        auto format = json["format"].get<int>();
        check(format == Manifest::format, "{} has format {}, this version reads {}", path.string(), format,
              Manifest::format);
        bool const hashed = json.contains("xxh64");
        if (hashed) {
            auto stored = json["xxh64"].get<std::string>();
            json.erase("xxh64");
            auto actual = hash_of(json);
            check(actual.empty() || actual == stored, "{} has been changed: its hash is not the one it names",
                  path.string());
        }
        Manifest m;
        m.step = json.at("step").get<std::int64_t>();
        m.seed = json.at("seed").get<std::uint64_t>();
        m.data_cursor = json.at("data_cursor").get<std::int64_t>();
        m.tokens = json.at("tokens").get<std::int64_t>();
        m.strings = json.at("strings").get<std::map<std::string, std::string>>();
        for (auto const& f : json.at("files")) {
            m.files.push_back({f.at("name").get<std::string>(), f.at("bytes").get<std::int64_t>(), {}});
            if (f.contains("xxh64")) m.files.back().xxh64 = f["xxh64"].get<std::string>();
            check(hashed || !m.files.back().xxh64, "{} has been changed: it has lost its hash",
                  path.string());
        }
        return m;
    } catch (Json::exception const& e) {
        fail("{} is not a manifest: {}", path.string(), std::string(e.what()).substr(0, 200));
    }
}

void verify(fs::path const& path, Manifest::File const& file) {
    std::error_code error;
    auto bytes = fs::file_size(path, error);
    check(!error, "{} is missing or unreadable: {}", path.string(), error.message());
    check(std::cmp_equal(bytes, file.bytes), "{} is truncated or changed: expected {} bytes, has {}",
          path.string(), file.bytes, bytes);
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
    check(hash.digest() == file.xxh64, "{} is damaged: expected XXH64 {}, has {}", path.string(), *file.xxh64,
          *hash.digest());
}

void write_files(fs::path const& folder, Manifest& manifest, std::span<NamedArray const> weights,
                 std::span<NamedArray const> optimizer) {
    manifest.files.clear();
    for (auto const& name : file_names) {
        auto step = std::map<std::string, std::string>{{"step", std::to_string(manifest.step)}};
        auto written = write_safetensors(folder / name, name == file_names[0] ? weights : optimizer, step);
        manifest.files.push_back({std::string(name), written.bytes, written.xxh64});
    }
    FileWriter out(folder / "manifest.json");
    out.write(manifest_text(manifest));
    out.finish();
    sync_folder(folder);
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

void remove_leftovers(fs::path const& folder) {
    std::error_code ignored;
    for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end; it.increment(ignored))
        if (it->path().filename().string().starts_with(aside_prefix)) {
            std::error_code error;
            fs::remove_all(it->path(), error);
        }
}

}  // namespace

fs::path save_checkpoint(fs::path const& run_folder, Manifest manifest, std::span<NamedArray const> weights,
                         std::span<NamedArray const> optimizer, int keep) {
    check<UsageError>(keep >= 1, "checkpoint.keep is {}: at least 1 must be kept", keep);
    check(manifest.step >= 0, "a checkpoint's step is {}: steps are not negative", manifest.step);
    auto folder = run_folder / "checkpoints";
    make_folder(folder);
    remove_leftovers(folder);
    auto name = folder_name(manifest.step);
    auto aside = folder / (std::string(aside_prefix) + name);
    make_folder(aside);
    try {
        write_files(aside, manifest, weights, optimizer);
        put_in_place(aside, folder / name);
    } catch (...) {
        remove_leftovers(folder);  // gives a full disk its space back
        throw;
    }
    sync_folder(folder);
    sync_folder(run_folder);
    write_file_atomically(folder / "latest", name + "\n");
    remove_leftovers(folder);

    // Newer steps are none of this save's business: a run that went back to an older checkpoint left them.
    int older = 0;
    for (auto const& [step, path] : saved_steps(folder)) {
        if (step >= manifest.step || ++older < keep) continue;
        // Out of the way first, so that a crash while deleting leaves no half checkpoint.
        auto doomed = folder / (std::string(aside_prefix) + "old-" + path.filename().string());
        if (::rename(path.c_str(), doomed.c_str()) != 0) fail_with_errno("remove", path);
        std::error_code error;
        fs::remove_all(doomed, error);
    }
    return folder / name;
}

Checkpoint open_checkpoint(fs::path const& folder) {
    Checkpoint c{folder, read_manifest(folder / "manifest.json")};
    for (auto const& name : file_names) {
        auto listed = std::find_if(c.manifest.files.begin(), c.manifest.files.end(),
                                   [&](auto& f) { return f.name == name; });
        check(listed != c.manifest.files.end(), "{} does not list {}", (folder / "manifest.json").string(),
              name);
    }
    for (auto const& file : c.manifest.files) {
        check(fs::path(file.name).filename() == file.name, "{} lists the file '{}', which is not beside it",
              (folder / "manifest.json").string(), file.name);
        verify(folder / file.name, file);
    }
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
