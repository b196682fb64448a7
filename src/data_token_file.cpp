#ifdef PLAIT_HAS_JSON

#include "plait/data/token_file.hpp"

#include "plait/data/hash_tables.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <bit>
#include <charconv>
#include <cstring>

static_assert(std::endian::native == std::endian::little,
              "token files are little-endian, and used as they lie");

namespace plait {
namespace {

using Json = nlohmann::json;

constexpr std::size_t llm_c_header = 256 * sizeof(std::int32_t);
constexpr std::int32_t llm_c_short = 20240520, llm_c_long = 20240801;
constexpr std::string_view shard_format = "plait tokens 1";
constexpr std::uint64_t longest_header = 1 << 20;
constexpr std::int64_t most_short = 1 << 16;

int width_for(std::int64_t vocabulary) { return vocabulary <= most_short ? 2 : 4; }

/// Of everything that a shard holds.
std::string shard_hash(ShardText const& text, std::string_view documents, std::string_view tokens) {
    auto const about = fmt::format("{} {} {}", text.vocabulary, text.tokenizer, text.bytes);
    return fmt::format("{:016x}", mix(mix(hash_bytes(about)) ^ hash_bytes(documents)) ^ hash_bytes(tokens));
}

/// Appends numbers of `width` bytes.
void put_tokens(std::string& out, std::span<std::uint32_t const> tokens, std::int64_t vocabulary) {
    auto const width = static_cast<std::size_t>(width_for(vocabulary));
    auto at = out.size();
    out.resize(at + tokens.size() * width);
    for (auto t : tokens) {
        check(std::cmp_less(t, vocabulary), "the token {} is outside the vocabulary of {}", t, vocabulary);
        std::memcpy(out.data() + at, &t, width);
        at += width;
    }
}

std::string_view view(std::span<std::byte const> bytes) {
    return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

MappedFile mapped(std::filesystem::path const& path) {
    try {
        return MappedFile(path);
    } catch (Error const& e) {
        throw UsageError(e.what());
    }
}

/// A number in the metadata, which holds strings.
std::int64_t number_in(Json const& metadata, char const* key) {
    std::int64_t n = -1;
    if (!metadata.contains(key) || !metadata[key].is_string()) return n;
    auto const text = metadata[key].get<std::string>();
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    return error == std::errc{} && end == text.data() + text.size() ? n : -1;
}

}  // namespace

TokenFile::TokenFile(std::filesystem::path path) : path_(std::move(path)), file_(mapped(path_)) {
    auto const bytes = file_.bytes();
    check<UsageError>(!bytes.empty(), "{}: the file is empty", path_.string());
    std::int32_t words[2] = {};
    std::memcpy(words, bytes.data(), std::min(bytes.size(), sizeof words));
    // Headers of others, which must not pass for tokens.
    bool const foreign = words[0] == 278895051 || words[0] == 20240522 ||
                         view(bytes).starts_with("BIN.TOK\n") || view(bytes).starts_with("MMIDIDX");
    if (path_.extension() == ".safetensors") read_plait();
    else if (words[0] == llm_c_short || words[0] == llm_c_long)
        read_llm_c(words[1], words[0] == llm_c_short ? 2 : 4);
    else if (!foreign) read_nano_gpt();
    else
        fail<UsageError>(
            "{}: its header is of a form that this version cannot read: there is llm.c's (20240520, "
            "20240801), "
            "nanoGPT's without one, and Plait's own",
            path_.string());
}

bool TokenFile::is_named(std::filesystem::path const& path) {
    return path.extension() == ".bin" || path.extension() == ".safetensors";
}

std::int64_t TokenFile::size() const {
    return std::visit([](auto tokens) { return std::ssize(tokens); }, tokens_);
}

void TokenFile::add_to(Tokens& tokens) const {
    std::visit([&](auto span) { tokens.add(span); }, tokens_);
}

std::uint64_t TokenFile::hash() const { return hash_bytes(file_.text()); }

std::string TokenFile::summary() const {
    auto const* name = format_ == TokenFormat::plait   ? "Plait"
                       : format_ == TokenFormat::llm_c ? "llm.c"
                                                       : "nanoGPT";
    return fmt::format("{}, uint{}, {} tokens", name, width() * 8, size());
}

void TokenFile::set_tokens(std::span<std::byte const> bytes, int width) {
    auto const count = bytes.size() / static_cast<std::size_t>(width);
    if (width == 2) tokens_ = Short(reinterpret_cast<std::uint16_t const*>(bytes.data()), count);
    else tokens_ = Long(reinterpret_cast<std::uint32_t const*>(bytes.data()), count);
}

void TokenFile::read_llm_c(std::int32_t version, int width) {
    format_ = TokenFormat::llm_c;
    auto const file = path_.string();
    auto const bytes = file_.bytes();
    check<UsageError>(bytes.size() >= llm_c_header,
                      "{} is truncated: llm.c's header has {} bytes, the file {}", file, llm_c_header,
                      bytes.size());
    auto const wanted = width == 2 ? 1 : 7;
    check<UsageError>(version == wanted, "{}: llm.c's version {} cannot be read, only {} for uint{}", file,
                      version, wanted, width * 8);
    std::int32_t count = 0;
    std::memcpy(&count, bytes.data() + 8, sizeof count);
    auto const has = static_cast<std::int64_t>(bytes.size() - llm_c_header);
    check<UsageError>(count >= 0 && std::int64_t{count} * width <= has,
                      "{} is truncated: its header tells of {} tokens, {} bytes, but {} follow", file, count,
                      std::int64_t{count} * width, has);
    check<UsageError>(std::int64_t{count} * width == has,
                      "{}: its header tells of {} tokens, {} bytes, but {} follow: was it edited?", file,
                      count, std::int64_t{count} * width, has);
    set_tokens(bytes.subspan(llm_c_header), width);
}

void TokenFile::read_nano_gpt() {
    check<UsageError>(
        file_.bytes().size() % 2 == 0,
        "{}: it has no header that is known, and {} bytes are no whole number of uint16 tokens: is it "
        "truncated?",
        path_.string(), file_.bytes().size());
    set_tokens(file_.bytes(), 2);
}

void TokenFile::read_plait() {
    format_ = TokenFormat::plait;
    auto const file = path_.string();
    auto const bytes = file_.bytes();
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), std::min<std::size_t>(bytes.size(), 8));
    check<UsageError>(bytes.size() >= 8 && (length > longest_header || length <= bytes.size() - 8),
                      "{} is truncated: expected a header of {} bytes, has {}", file, length, bytes.size());
    check<UsageError>(length <= longest_header, "{}: it is no file of tokens: its header would take {} bytes",
                      file, length);
    auto const header = Json::parse(view(bytes.subspan(8, length)), nullptr, false);
    bool const own = header.is_object() && header.contains("__metadata__") &&
                     header["__metadata__"].is_object() &&
                     header["__metadata__"].value("format", Json()) == shard_format;
    check<UsageError>(own, "{}: it is no file of tokens: its metadata has no format = \"{}\"", file,
                      shard_format);
    auto const& metadata = header["__metadata__"];
    ShardText text{number_in(metadata, "vocabulary"), "", number_in(metadata, "bytes")};
    for (auto [key, string] : {std::pair{"tokenizer", &text.tokenizer}, {"hash", &data_hash_}})
        if (metadata.contains(key) && metadata[key].is_string()) *string = metadata[key].get<std::string>();
    check<UsageError>(
        text.vocabulary > 0 && text.bytes >= 0 && !text.tokenizer.empty() && !data_hash_.empty(),
        "{}: its metadata lacks vocabulary, tokenizer, bytes or hash", file);

    // One layout only, so what is there must be what would be written.
    auto const data = bytes.subspan(8 + length);
    auto tensor = [&](char const* name, std::string_view dtype, std::uint64_t width, std::uint64_t begin) {
        bool ok = header.contains(name) && header[name].is_object();
        auto const& t = ok ? header[name] : metadata;
        ok = ok && t.value("dtype", Json()) == dtype && t.contains("shape") && t["shape"].is_array() &&
             t["shape"].size() == 1 && t["shape"][0].is_number_unsigned() &&
             t["shape"][0].get<std::uint64_t>() < std::uint64_t{1} << 48;
        auto const count = ok ? t["shape"][0].get<std::uint64_t>() : 0;
        check<UsageError>(
            ok && t.value("data_offsets", Json()) == Json::array({begin, begin + count * width}),
            "{}: the tensor {} is not {} in one row after what comes before it", file, name, dtype);
        check<UsageError>(begin + count * width <= data.size(),
                          "{} is truncated: {} takes bytes {} to {}, but the file has {} after its header",
                          file, name, begin, begin + count * width, data.size());
        return data.subspan(begin, count * width);
    };
    auto const width = width_for(text.vocabulary);
    auto const documents = tensor("documents", "I64", 8, 0);
    auto const tokens =
        tensor("tokens", width == 2 ? "U16" : "U32", static_cast<std::uint64_t>(width), documents.size());
    check<UsageError>(documents.size() + tokens.size() == data.size(),
                      "{}: {} bytes after the last tensor belong to none", file,
                      data.size() - documents.size() - tokens.size());
    check<UsageError>((8 + length) % 8 == 0, "{}: its data does not begin at a multiple of 8 bytes", file);
    set_tokens(tokens, width);
    documents_ = {reinterpret_cast<std::int64_t const*>(documents.data()), documents.size() / 8};
    check<UsageError>(!documents_.empty() && documents_.front() == 0 && documents_.back() == size() &&
                          std::is_sorted(documents_.begin(), documents_.end()),
                      "{}: its documents do not cover its tokens in order", file);
    text_ = std::move(text);
}

void TokenFile::verify(std::int64_t vocabulary, std::string_view owner) const {
    if (text_) {
        auto const tokens = std::visit([](auto t) { return view(std::as_bytes(t)); }, tokens_);
        auto const has = shard_hash(*text_, view(std::as_bytes(documents_)), tokens);
        check<UsageError>(has == data_hash_,
                          "{}: it was changed since it was written: its hash is {}, it tells {}",
                          path_.string(), has, data_hash_);
    }
    std::visit(
        [&](auto tokens) {
            std::uint32_t largest = 0;
            for (auto t : tokens) largest = std::max<std::uint32_t>(largest, t);
            if (std::cmp_less(largest, vocabulary)) return;
            auto at = std::find_if(tokens.begin(), tokens.end(),
                                   [&](auto t) { return std::cmp_greater_equal(t, vocabulary); });
            if (at == tokens.end()) return;
            fail<UsageError>("{}: token {} is {}, which is not below {} = {}", path_.string(),
                             at - tokens.begin(), *at, owner, vocabulary);
        },
        tokens_);
}

std::string plait_shard(std::span<std::uint32_t const> tokens, std::span<std::int64_t const> documents,
                        ShardText const& text) {
    std::string data(reinterpret_cast<char const*>(documents.data()), documents.size_bytes());
    put_tokens(data, tokens, text.vocabulary);
    auto const split = documents.size_bytes();
    auto const hash =
        shard_hash(text, std::string_view(data).substr(0, split), std::string_view(data).substr(split));
    nlohmann::ordered_json const header{
        {"__metadata__",
         {{"format", shard_format},
          {"vocabulary", std::to_string(text.vocabulary)},
          {"tokenizer", text.tokenizer},
          {"bytes", std::to_string(text.bytes)},
          {"hash", hash}}},
        {"documents", {{"dtype", "I64"}, {"shape", {documents.size()}}, {"data_offsets", {0, split}}}},
        {"tokens",
         {{"dtype", width_for(text.vocabulary) == 2 ? "U16" : "U32"},
          {"shape", {tokens.size()}},
          {"data_offsets", {split, data.size()}}}}};
    auto head = header.dump();
    head.resize((head.size() + 7) / 8 * 8, ' ');
    auto const length = static_cast<std::uint64_t>(head.size());
    std::string file(reinterpret_cast<char const*>(&length), 8);
    file.reserve(8 + head.size() + data.size());
    return file + head + data;
}

std::string llm_c_shard(std::span<std::uint32_t const> tokens, std::int64_t vocabulary) {
    check(tokens.size() < std::size_t{1} << 31, "llm.c's form holds fewer than 2^31 tokens, not {}",
          tokens.size());
    bool const narrow = width_for(vocabulary) == 2;
    std::array<std::int32_t, 256> header{narrow ? llm_c_short : llm_c_long, narrow ? 1 : 7,
                                         static_cast<std::int32_t>(tokens.size())};
    std::string file(reinterpret_cast<char const*>(header.data()), sizeof header);
    put_tokens(file, tokens, vocabulary);
    return file;
}

}  // namespace plait

#endif
