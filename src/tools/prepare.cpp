#include "prepare.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <thread>

#include "commands.hpp"
#include "plait/io/file.hpp"
#include "plait/train/progress.hpp"

namespace plait::tools {
namespace {

namespace fs = std::filesystem;

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
    fmt::print(format, std::forward<Args>(args)...);
    fmt::print("\n");
    std::fflush(stdout);
}

std::string count(std::int64_t n) { return n < 100 ? std::to_string(n) : count_text(static_cast<double>(n)); }
std::string documents(std::int64_t n) { return count(n) + (n == 1 ? " document" : " documents"); }
std::string size(std::int64_t bytes) { return bytes_text(static_cast<double>(bytes)); }

/// The folder that is prepared into. Only one process works in it at a time; what is finished stands in
/// prepare-state.json until all is, and in manifest.json then.
class Output {
  public:
    explicit Output(fs::path folder) : folder_(std::move(folder)), state_(folder_ / "prepare-state.json") {
        bool const ours = Prepared::is_at(folder_);
        std::error_code ignored;
        check<UsageError>(!fs::exists(folder_, ignored) || fs::is_directory(folder_, ignored),
                          "--out {}: it is not a folder", folder_.string());
        check<UsageError>(
            ours || !fs::exists(folder_, ignored) || fs::is_empty(folder_, ignored) || only_aside(),
            "--out {}: it holds other files: name a new folder", folder_.string());
        try {
            make_folder(folder_);
        } catch (Error const& e) {
            fail<UsageError>("--out {}: {}", folder_.string(), e.what());
        }
        lock_ = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (lock_ < 0) fail_with_errno("open", folder_);
        check<UsageError>(::flock(lock_, LOCK_EX | LOCK_NB) == 0,
                          "--out {}: another plait prepare works there", folder_.string());
    }
    ~Output() { ::close(lock_); }
    Output(Output const&) = delete;
    Output& operator=(Output const&) = delete;

    bool finished() const { return fs::exists(folder_ / Prepared::file_name); }
    bool begun() const { return finished() || fs::exists(state_); }
    fs::path tokenizer() const { return folder_ / Prepared::tokenizer_file; }
    fs::path const& folder() const { return folder_; }

    Prepared load() const {
        auto const file = finished() ? folder_ / Prepared::file_name : state_;
        return Prepared::parse(read_file(file), file.string());
    }
    void save(Prepared const& prepared) const { write_file_atomically(state_, prepared.json()); }
    void finish(Prepared const& prepared) const {
        write_file_atomically(folder_ / Prepared::file_name, prepared.json());
        fs::remove(state_);
    }
    /// Takes away what a killed run may have left besides.
    void clean() const {
        for (auto const& entry : fs::directory_iterator(folder_))
            if (entry.path().extension() == ".new") fs::remove(entry.path());
        if (finished()) fs::remove(state_);
    }

  private:
    /// Killed before anything was finished.
    bool only_aside() const {
        for (auto const& entry : fs::directory_iterator(folder_))
            if (entry.path().filename() != "prepare-state.json.new") return false;
        return true;
    }

    fs::path folder_, state_;
    int lock_ = -1;
};

/// Keeps the shards of an earlier run that are whole, up to the first that is not.
void keep_whole(fs::path const& folder, ShardList& list) {
    for (std::size_t i = 0; i < list.shards.size(); ++i) {
        try {
            ShardList one;
            one.shards = {list.shards[i]};
            TokenFiles().open(folder, one);
        } catch (UsageError const& e) {
            say("note    {}: made again", e.what());
            list.shards.resize(i);
        }
    }
}

Prepared begin(PrepareArguments const& a, Collection const& collection, FileCounts const& counts) {
    Prepared p;
    p.files = counts;
    p.options = {{"documents", collection.hash},
                 {"format", a.format},
                 {"shard_tokens", std::to_string(a.shard_tokens)},
                 {"validation", fmt::format("{}", a.validation)},
                 {"vocab", a.tokenizer.empty() ? std::to_string(a.vocab) : "of --tokenizer"},
                 {"tokenizer", a.tokenizer.empty() ? "trained" : Tokenizer::load(a.tokenizer).hash()}};
    return p;
}

void compare(PrepareArguments const& a, Prepared const& had, Prepared const& now) {
    for (auto const& [key, value] : now.options) {
        auto it = had.options.find(key);
        auto const before = it == had.options.end() ? "nothing" : it->second;
        check<UsageError>(
            value == before || key != "documents",
            "--out {}: it was prepared from other text than is there now: name another folder, or "
            "remove this one",
            a.out);
        check<UsageError>(
            value == before,
            "--out {}: it was prepared with {} = {}, now it is {}: name another folder, or remove this "
            "one",
            a.out, key, before, value);
    }
}

Tokenizer train(PrepareArguments const& a, Collection const& collection, ThreadPool& pool) {
    Splitter const splitter{std::string(gpt4_pattern)};
    std::vector<PieceCounter> counters(static_cast<std::size_t>(pool.workers()), PieceCounter(splitter));
    auto const& documents = collection.train;
    WorkLine line("counting", bytes_of(documents));
    pool.run(std::ssize(documents), [&](std::int64_t i, int worker) {
        auto const& document = documents[static_cast<std::size_t>(i)];
        counters[static_cast<std::size_t>(worker)].add(collection.read(document));
        line.add(document.bytes(), worker);
    });
    for (; counters.size() > 1; counters.pop_back()) counters[0].add(counters.back());
    auto tokenizer = train_tokenizer(counters[0].pieces(), a.vocab);
    say("learned {} tokens in {:.1f} s", count(tokenizer.vocabulary()), line.seconds());
    return tokenizer;
}

/// The tokenizer of an earlier run, the one that was named, or a new one.
Tokenizer tokenizer_of(PrepareArguments const& a, Collection const& collection, ThreadPool& pool,
                       Output const& output, Prepared& prepared) {
    if (!prepared.tokenizer.empty()) {
        auto kept = Tokenizer::load(output.tokenizer());
        check<UsageError>(kept.hash() == prepared.tokenizer,
                          "{}: it was changed since it was written: its hash is {}, "
                          "it was {}",
                          output.tokenizer().string(), kept.hash(), prepared.tokenizer);
        return kept;
    }
    auto tokenizer = a.tokenizer.empty() ? train(a, collection, pool) : Tokenizer::load(a.tokenizer);
    write_file_atomically(output.tokenizer(),
                          a.tokenizer.empty() ? tokenizer.json() : read_file(a.tokenizer));
    prepared.tokenizer = tokenizer.hash();
    prepared.vocabulary = tokenizer.vocabulary();
    output.save(prepared);
    return tokenizer;
}

std::string files_text(FileCounts const& counts) {
    auto used = counts.contains("used") ? counts.at("used") : 0;
    auto line = fmt::format("{} {} used", count(used), used == 1 ? "file" : "files");
    for (auto const& [why, n] : counts)
        if (why != "used") line += fmt::format("; {} {}", count(n), why);
    return line + (counts.size() > 1 ? " left out" : "");
}

void tell(std::string_view side, ShardList const& list) {
    if (list.tokens() == 0) return say("{:<11} nothing", side);
    say("{:<11} {} tokens of {}, {:.3f} bytes per token; {} {}", side, count(list.tokens()),
        documents(list.documents()),
        static_cast<double>(list.text_bytes()) / static_cast<double>(list.tokens()),
        count(std::ssize(list.shards)), list.shards.size() == 1 ? "shard" : "shards");
}

void tell(PrepareArguments const& a, Prepared const& p) {
    tell("train", p.train);
    tell("validation", p.validation);
    say("saved {}; try: plait train --data.path={} --model.vocab={}", a.out, a.out, p.vocabulary);
}

}  // namespace

int prepare(PrepareArguments const& a) {
    check<UsageError>(Splitter::available(),
                      "plait prepare: this build has no PCRE2, which splits text for the "
                      "tokenizer: install libpcre2-dev and build again");
    ThreadPool pool(static_cast<int>(a.threads));
    FileCounts counts;
    auto const files = find_files(a, counts);
    auto const collection = collect(a, files, pool, counts);
    say("{}", files_text(counts));
    check<UsageError>(!collection.files.empty(), "plait prepare: no text is left: {}", files_text(counts));
    check<UsageError>(
        !collection.train.empty(),
        "plait prepare: with --validation {} all of this text falls to validation: give more text, or "
        "--validation 0",
        a.validation);
    say("{} for training in {}, {} for validation in {}", size(bytes_of(collection.train)),
        documents(std::ssize(collection.train)), size(bytes_of(collection.validation)),
        documents(std::ssize(collection.validation)));

    auto prepared = begin(a, collection, counts);
    Output const output(a.out);
    output.clean();
    if (output.begun()) {
        auto had = output.load();
        compare(a, had, prepared);
        if (output.finished()) {
            TokenFiles whole;
            for (auto const* list : {&had.train, &had.validation}) whole.open(a.out, *list);
            say("{} is prepared already", a.out);
            tell(a, had);
            return 0;
        }
        say("going on with {}: {} shards are there", a.out,
            had.train.shards.size() + had.validation.shards.size());
        had.files = counts;
        prepared = std::move(had);
        keep_whole(output.folder(), prepared.train);
        keep_whole(output.folder(), prepared.validation);
    } else {
        output.save(prepared);
    }
    auto const tokenizer = tokenizer_of(a, collection, pool, output, prepared);
    if (a.tokenizer.empty() && tokenizer.vocabulary() < a.vocab)
        say("note    the text gives no more than {} tokens", tokenizer.vocabulary());
    auto save = [&] { output.save(prepared); };
    make_shards(collection, collection.train, "train", tokenizer, a, pool, prepared.train, save);
    make_shards(collection, collection.validation, "validation", tokenizer, a, pool, prepared.validation,
                save);
    output.finish(prepared);
    if (collection.validation.empty() && a.validation > 0)
        say("note    no document fell to validation: give more text, or a larger --validation");
    tell(a, prepared);
    return 0;
}

}  // namespace plait::tools
