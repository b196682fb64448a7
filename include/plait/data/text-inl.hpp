#pragma once

#include "plait/data/text.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <system_error>

namespace plait {
namespace detail {

/// Regular files below `folder`, in no order. Folders that cannot be entered count as unreadable.
PLAIT_INLINE void list_files(std::filesystem::path const& folder, std::vector<std::filesystem::path>& files,
                             std::int64_t& unreadable) {
    namespace fs = std::filesystem;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        std::error_code unknown;
        auto status = it->symlink_status(unknown);
        if (fs::is_directory(status)) list_files(it->path(), files, unreadable);
        else if (fs::is_regular_file(status)) files.push_back(it->path());
    }
    if (error) ++unreadable;
}

struct TextReader {
    TextOptions const& options;
    Text text;

    /// Appends a file; says whether it could be read.
    bool add(std::filesystem::path const& path) {
        std::ifstream in(path, std::ios::binary);
        if (!in) return false;
        auto begin = text.bytes.size();
        std::error_code error;
        auto size = std::filesystem::file_size(path, error);
        if (error) return false;
        if (options.max_bytes > 0 && begin + size > static_cast<std::uint64_t>(options.max_bytes)) {
            ++text.capped_files;
            return true;
        }
        text.bytes.resize(begin + size);
        in.read(reinterpret_cast<char*>(text.bytes.data() + begin), static_cast<std::streamsize>(size));
        if (in.bad() || std::cmp_not_equal(in.gcount(), size)) {
            text.bytes.resize(begin);
            return false;
        }
        if (size > 0 && std::memchr(text.bytes.data() + begin, 0, size)) {
            ++text.binary_files;
            text.bytes.resize(begin);
        } else if (size > 0) {
            text.ends.push_back(static_cast<std::int64_t>(text.bytes.size()));
        }
        return true;
    }

    void add_folder(std::filesystem::path const& folder) {
        std::vector<std::filesystem::path> files;
        list_files(folder, files, text.unreadable_files);
        std::sort(files.begin(), files.end(), [](auto& a, auto& b) { return a.native() < b.native(); });
        for (auto const& f : files) {
            auto const& wanted = options.extensions;
            if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), f.extension()) == wanted.end())
                continue;
            if (!add(f)) ++text.unreadable_files;
        }
    }
};

}  // namespace detail

PLAIT_INLINE Text read_text(std::span<std::string const> paths, TextOptions const& options) {
    check<UsageError>(!paths.empty(),
                      "no text is given: set data.path to a file or folder, such as --data.path=book.txt");
    detail::TextReader reader{options, {}};
    for (auto const& path : paths) {
        std::error_code error;
        auto status = std::filesystem::status(path, error);
        check<UsageError>(std::filesystem::exists(status), "the text {} cannot be read: {}", path,
                          error ? error.message() : "No such file or directory");
        if (std::filesystem::is_directory(status)) reader.add_folder(path);
        else if (!std::filesystem::is_regular_file(status))
            fail<UsageError>("the text {} cannot be read: it is neither a file nor a folder", path);
        else check<UsageError>(reader.add(path), "the text {} cannot be read: is it permitted?", path);
    }
    auto const& t = reader.text;
    std::string list;
    for (auto const& path : paths) list += (list.empty() ? "" : ", ") + path;
    check<UsageError>(
        !t.bytes.empty(),
        "no text in {}: {} binary and {} unreadable files skipped, {} over the size limit, the rest empty "
        "or filtered out",
        list, t.binary_files, t.unreadable_files, t.capped_files);
    return std::move(reader.text);
}

}  // namespace plait
