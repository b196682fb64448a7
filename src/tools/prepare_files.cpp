#include <algorithm>
#include <cmath>
#include <fstream>
#include <unordered_map>

#include "plait/data/utf8.hpp"
#include "plait/graph/glob.hpp"
#include "plait/io/mapped_file.hpp"
#include "prepare.hpp"

namespace plait::tools {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t part_bytes = 64 << 10, longest_document = 16 << 20;

std::vector<std::string_view> names_of_path(std::string_view path) {
    std::vector<std::string_view> names;
    while (!path.empty()) {
        auto const slash = path.find('/');
        if (slash != 0) names.push_back(path.substr(0, slash));
        path.remove_prefix(slash == path.npos ? path.size() : slash + 1);
    }
    return names;
}

bool any_matches(std::vector<std::string> const& globs, std::string const& path) {
    return std::any_of(globs.begin(), globs.end(), [&](auto const& g) { return path_matches(g, path); });
}

struct Walk {
    PrepareArguments const& arguments;
    FileCounts& counts;
    fs::path out;
    std::vector<fs::path> files;

    void add_folder(fs::path const& folder) {
        std::vector<fs::path> found;
        list(folder, found);
        std::vector<std::pair<std::string, fs::path>> rows;
        for (auto& path : found)
            rows.emplace_back(path.lexically_relative(folder).generic_string(), std::move(path));
        std::sort(rows.begin(), rows.end());
        for (auto& [relative, path] : rows) {
            bool const wanted = (arguments.include.empty() || any_matches(arguments.include, relative)) &&
                                !any_matches(arguments.exclude, relative);
            if (wanted) files.push_back(std::move(path));
            else ++counts["filtered"];
        }
    }

    void list(fs::path const& folder, std::vector<fs::path>& found) {
        std::error_code error;
        for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
            std::error_code unknown;
            auto const status = it->symlink_status(unknown);
            auto const folder_here = fs::is_directory(status);
            if (!folder_here && !fs::is_regular_file(status)) continue;
            if (it->path().filename().native().starts_with(".")) ++counts["hidden"];
            else if (!folder_here) found.push_back(it->path());
            else if (fs::weakly_canonical(it->path(), unknown) != out) list(it->path(), found);
        }
        if (error) ++counts["unreadable"];
    }
};

/// What one file turned out to be.
struct Looked {
    std::string why_not;  // the reason to leave it out
    std::int64_t bytes = 0;
    std::uint64_t hash = 0;
};

Looked look_at(fs::path const& path, std::int64_t most_bytes) {
    try {
        MappedFile file(path);
        auto const text = file.text();
        Looked looked{"", std::ssize(text), 0};
        if (text.empty()) looked.why_not = "empty";
        else if (most_bytes > 0 && looked.bytes > most_bytes) looked.why_not = "too large";
        else if (text.find('\0') != text.npos) looked.why_not = "binary";
        else if (valid_utf8(text) != text.size()) looked.why_not = "not UTF-8";
        else looked.hash = hash_bytes(text);
        return looked;
    } catch (Error const&) {
        return {"unreadable", 0, 0};
    }
}

bool same_contents(fs::path const& a, fs::path const& b) {
    return MappedFile(a).text() == MappedFile(b).text();
}

}  // namespace

bool path_matches(std::string_view glob, std::string const& path) {
    if (glob.find('/') == glob.npos) return detail::name_matches(glob, fs::path(path).filename().native());
    return detail::wildcard_matches(
        names_of_path(glob), names_of_path(path), [](auto g) { return g == "**"; },
        [](auto g, auto name) { return detail::name_matches(g, name); });
}

std::vector<fs::path> find_files(PrepareArguments const& arguments, FileCounts& counts) {
    std::error_code ignored;
    Walk walk{arguments, counts, fs::weakly_canonical(arguments.out, ignored), {}};
    for (auto const& path : arguments.paths) {
        std::error_code error;
        auto const status = fs::status(path, error);
        check<UsageError>(fs::exists(status), "{} cannot be read: {}", path,
                          error ? error.message() : "No such file or directory");
        bool const folder = fs::is_directory(status);
        check<UsageError>(folder || fs::is_regular_file(status), "{} is neither a file nor a folder", path);
        if (folder) walk.add_folder(path);
        else walk.files.push_back(path);
    }
    return std::move(walk.files);
}

std::string Collection::read(Document const& document) const {
    auto const& path = files[document.file];
    std::ifstream in(path, std::ios::binary);
    std::string text(static_cast<std::size_t>(document.bytes()), '\0');
    in.seekg(document.begin);
    in.read(text.data(), document.bytes());
    check(in.gcount() == document.bytes(), "{}: it was changed while it was read: run the command again",
          path.string());
    return text;
}

void divide(std::string_view text, std::uint64_t hash, std::size_t file, double fraction,
            Collection& collection) {
    // Counts through the parts of a file take every 1/fraction-th, from a place that its contents choose.
    auto const start = static_cast<double>(mix(hash) >> 11) * 0x1p-53;
    auto in_validation = [&](std::int64_t part) {
        auto const n = static_cast<double>(part);
        return std::floor(start + (n + 1) * fraction) > std::floor(start + n * fraction);
    };
    auto const size = std::ssize(text);
    std::vector<Document>* last = nullptr;
    for (std::int64_t begin = 0, part = 0; begin < size; ++part) {
        auto end = size;
        if (size - begin > part_bytes + part_bytes / 2) {
            auto const wanted = static_cast<std::size_t>(begin + part_bytes);
            auto const line = text.rfind('\n', wanted);
            end = line != text.npos && std::cmp_greater(line, begin) ? static_cast<std::int64_t>(line) + 1
                                                                     : static_cast<std::int64_t>(wanted);
            // Where there are no lines, at least between characters.
            while ((text[static_cast<std::size_t>(end)] & 0xc0) == 0x80) --end;
        }
        auto* side = in_validation(part) ? &collection.validation : &collection.train;
        if (side == last && end - side->back().begin <= longest_document) side->back().end = end;
        else side->push_back({file, begin, end});
        last = side;
        begin = end;
    }
}

Collection collect(PrepareArguments const& arguments, std::vector<fs::path> const& files, ThreadPool& pool,
                   FileCounts& counts) {
    std::vector<Looked> looked(files.size());
    {
        WorkLine line("reading", 0);
        pool.run(std::ssize(files), [&](std::int64_t i, int worker) {
            auto const n = static_cast<std::size_t>(i);
            looked[n] = look_at(files[n], arguments.max_file_bytes);
            line.add(looked[n].bytes, worker);
        });
    }
    Collection collection;
    std::unordered_multimap<std::uint64_t, std::size_t> seen;
    std::int64_t bytes = 0;
    std::uint64_t hash = 0;
    for (std::size_t i = 0; i < files.size(); ++i) {
        auto& file = looked[i];
        auto [first, last] = seen.equal_range(file.hash);
        // A hash of 64 bits finds candidates; the bytes decide.
        if (file.why_not.empty() &&
            std::any_of(first, last, [&](auto const& s) { return same_contents(files[s.second], files[i]); }))
            file.why_not = "duplicate";
        if (file.why_not.empty() && arguments.max_bytes > 0 && bytes + file.bytes > arguments.max_bytes)
            file.why_not = "beyond --max-bytes";
        ++counts[file.why_not.empty() ? "used" : file.why_not];
        if (!file.why_not.empty()) continue;
        seen.emplace(file.hash, i);
        bytes += file.bytes;
        hash = mix(hash ^ file.hash) + static_cast<std::uint64_t>(file.bytes);
        collection.files.push_back(files[i]);
        divide(MappedFile(files[i]).text(), file.hash, collection.files.size() - 1, arguments.validation,
               collection);
    }
    collection.hash = fmt::format("{:016x}", hash);
    return collection;
}

}  // namespace plait::tools
