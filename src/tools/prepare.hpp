#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "command_line.hpp"
#include "plait/cpu/thread_pool.hpp"
#include "plait/data/prepared.hpp"

namespace plait::tools {

/// How many files were used, and left out for which reason.
using FileCounts = std::map<std::string, std::int64_t>;

/// Whether a path below a folder matches a glob: one without a slash is meant for the name alone; `*` stays
/// within a name, `**` stands for any folders.
bool path_matches(std::string_view glob, std::string const& path);

/// The regular files that the paths name, folders with all that is in them, in the order of the paths and
/// within a folder sorted by path, by bytes. Globs choose among files in folders. Links, and names that begin
/// with a dot, are passed over there, and so is the folder `out`. Throws UsageError for a path that does not
/// exist.
std::vector<std::filesystem::path> find_files(PrepareArguments const& arguments, FileCounts& counts);

/// A range of bytes of a file: a whole file, or those parts of a long one that lie on one side of the split.
struct Document {
    std::size_t file = 0;  // in Collection::files
    std::int64_t begin = 0, end = 0;
    std::int64_t bytes() const { return end - begin; }
};

/// Of all documents together.
std::int64_t bytes_of(std::span<Document const> documents);

/// The text to prepare.
struct Collection {
    std::vector<std::filesystem::path> files;
    std::vector<Document> train, validation;
    std::string hash;  // of the contents in order

    std::string read(Document const& document) const;
};

/// Cuts a file of `size` bytes, whose text is `text` and hashes to `hash`, into documents. Long files have
/// parts of about 64 KiB that end with a line; `fraction` of the parts go to validation, which ones is up to
/// the file's contents alone.
void divide(std::string_view text, std::uint64_t hash, std::size_t file, double fraction,
            Collection& collection);

/// Reads all files and leaves out those that are empty, binary, not UTF-8, too large, or duplicates of an
/// earlier one.
Collection collect(PrepareArguments const& arguments, std::vector<std::filesystem::path> const& files,
                   ThreadPool& pool, FileCounts& counts);

/// A line that is written over again while work goes on, on a terminal only.
class WorkLine {
  public:
    WorkLine(std::string what, std::int64_t bytes);
    ~WorkLine();
    WorkLine(WorkLine const&) = delete;
    WorkLine& operator=(WorkLine const&) = delete;

    /// Any thread may call it; worker 0 draws.
    void add(std::int64_t bytes, int worker);
    double seconds() const;

  private:
    std::string what_;
    std::int64_t all_;
    std::atomic<std::int64_t> done_{0};
    bool terminal_;
    std::chrono::steady_clock::time_point start_, drawn_;
};

/// Makes the shards of one side that are not there yet; `save` is called after each.
void make_shards(Collection const& collection, std::vector<Document> const& documents,
                 std::string const& side, Tokenizer const& tokenizer, PrepareArguments const& arguments,
                 ThreadPool& pool, ShardList& list, std::function<void()> const& save);

}  // namespace plait::tools
