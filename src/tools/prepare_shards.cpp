#include <unistd.h>

#include "plait/io/file.hpp"
#include "plait/train/progress.hpp"
#include "prepare.hpp"

namespace plait::tools {
namespace {

// Text that is read and encoded at a time, by all threads together.
constexpr std::int64_t batch_bytes = 32 << 20;

/// The shard that is being filled.
struct OpenShard {
    std::vector<std::uint32_t> tokens;
    std::vector<std::int64_t> documents{0};
    std::int64_t bytes = 0;
};

Shard write_shard(OpenShard const& open, std::string const& name, Tokenizer const& tokenizer,
                  std::string const& hash, PrepareArguments const& arguments) {
    auto const vocabulary = tokenizer.vocabulary();
    bool const plain = arguments.format == "llm.c";
    auto const file = plain ? llm_c_shard(open.tokens, vocabulary)
                            : plait_shard(open.tokens, open.documents, {vocabulary, hash, open.bytes});
    write_file_atomically(std::filesystem::path(arguments.out) / name, file);
    return {name,
            std::ssize(open.documents) - 1,
            std::ssize(open.tokens),
            open.bytes,
            std::ssize(file),
            fmt::format("{:016x}", hash_bytes(file))};
}

}  // namespace

std::int64_t bytes_of(std::span<Document const> documents) {
    std::int64_t n = 0;
    for (auto const& d : documents) n += d.bytes();
    return n;
}

WorkLine::WorkLine(std::string what, std::int64_t bytes)
    : what_(std::move(what)), all_(bytes), start_(std::chrono::steady_clock::now()), drawn_(start_) {
    auto const* kind = std::getenv("TERM");
    terminal_ = ::isatty(STDOUT_FILENO) == 1 && kind && std::string_view(kind) != "dumb";
}

WorkLine::~WorkLine() {
    if (terminal_) fmt::print("\r\x1b[K");
    std::fflush(stdout);
}

double WorkLine::seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void WorkLine::add(std::int64_t bytes, int worker) {
    auto const done = static_cast<double>(done_ += bytes);
    auto const now = std::chrono::steady_clock::now();
    if (!terminal_ || worker != 0 || now - drawn_ < std::chrono::milliseconds(100)) return;
    drawn_ = now;
    auto const of = all_ > 0 ? " of " + bytes_text(static_cast<double>(all_)) : "";
    fmt::print("\r\x1b[K{}  {}{}  {}/s", what_, bytes_text(done), of, bytes_text(done / seconds()));
    std::fflush(stdout);
}

void make_shards(Collection const& collection, std::vector<Document> const& documents,
                 std::string const& side, Tokenizer const& tokenizer, PrepareArguments const& arguments,
                 ThreadPool& pool, ShardList& list, std::function<void()> const& save) {
    std::vector<Encoder> encoders(static_cast<std::size_t>(pool.workers()), Encoder(tokenizer));
    auto const hash = tokenizer.hash();
    OpenShard open;
    auto close = [&] {
        auto const* extension = arguments.format == "llm.c" ? "bin" : "safetensors";
        auto const name = fmt::format("{}-{:05}.{}", side, list.shards.size(), extension);
        list.shards.push_back(write_shard(open, name, tokenizer, hash, arguments));
        open = {};
        save();
    };
    auto next = static_cast<std::size_t>(list.documents());
    WorkLine line("encoding for " + side, bytes_of(std::span(documents).subspan(next)));
    while (next < documents.size()) {
        auto first = next;
        for (std::int64_t n = 0; next < documents.size() && n < batch_bytes; ++next)
            n += documents[next].bytes();
        std::vector<std::vector<std::uint32_t>> encoded(next - first);
        pool.run(std::ssize(encoded), [&](std::int64_t i, int worker) {
            auto const& document = documents[first + static_cast<std::size_t>(i)];
            auto& tokens = encoded[static_cast<std::size_t>(i)];
            encoders[static_cast<std::size_t>(worker)].encode(collection.read(document), tokens);
            tokens.push_back(tokenizer.separator());
            line.add(document.bytes(), worker);
        });
        // In order, so that where a shard ends depends on the documents alone.
        for (std::size_t i = 0; i < encoded.size(); ++i) {
            open.tokens.insert(open.tokens.end(), encoded[i].begin(), encoded[i].end());
            open.documents.push_back(std::ssize(open.tokens));
            open.bytes += documents[first + i].bytes();
            encoded[i] = {};
            if (std::ssize(open.tokens) >= arguments.shard_tokens) close();
        }
    }
    if (!open.tokens.empty()) close();
}

}  // namespace plait::tools
