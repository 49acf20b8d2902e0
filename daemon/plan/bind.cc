#include "daemon/plan/bind.h"

#include <algorithm>
#include <boost/container/small_vector.hpp>
#include <charconv>
#include <utility>

#include "daemon/plan/memory.h"
#include "schema/ipc/untrusted.h"
#include "schema/limits.h"

namespace kaas {
namespace {

// Of requests with this many buffers nothing is allocated to bind a run.
constexpr std::size_t kUsualBuffers = 16;

std::string buffer_name(const TemplateBuffer& buffer) {
  return "buffer '" + buffer.name + "'";
}

// One call of bind_run(): binds buffer by buffer into `bound`.
class Binder {
 public:
  Binder(const PlanTemplate& plan, std::span<const BufferPlace> places, const BindContext& context,
         BoundRun& bound)
      : plan_(plan), places_(places), context_(context), bound_(bound) {}

  Result<BindOutcome> run() {
    bound_.idempotent = plan_.idempotent;
    for (const std::uint16_t buffer : plan_.loads) {
      KAAS_RETURN_IF_ERROR(bind_load(buffer));
      if (blocked_on_ != 0) return BindOutcome{blocked_on_};
    }
    for (const std::uint16_t buffer : plan_.stores) {
      KAAS_RETURN_IF_ERROR(bind_store(buffer));
      if (blocked_on_ != 0) return BindOutcome{blocked_on_};
    }
    KAAS_RETURN_IF_ERROR(check_names());
    if (overwrites_input()) bound_.idempotent = false;
    context_.history.conflicts(bound_.accesses, bound_.after);
    std::sort(bound_.after.begin(), bound_.after.end());
    bound_.after.erase(std::unique(bound_.after.begin(), bound_.after.end()), bound_.after.end());
    return BindOutcome{};
  }

 private:
  Result<void> bind_load(std::uint16_t index) {
    const Place& place = *places_[index].place;
    BoundLoad load;
    load.offset = places_[index].offset;
    switch (place.where) {
      case wire::Where::Store:
        KAAS_RETURN_IF_ERROR(load_object(index, place, load));
        break;
      case wire::Where::Segment:
      case wire::Where::Ipc:
        KAAS_RETURN_IF_ERROR(load_segment(index, place, load));
        break;
      case wire::Where::Inline:
        KAAS_RETURN_IF_ERROR(load_inline(index, place, load));
        break;
    }
    bound_.loads.push_back(std::move(load));
    return {};
  }

  Result<void> bind_store(std::uint16_t index) {
    const Place& place = *places_[index].place;
    BoundStore store;
    store.buffer = index;
    store.bytes = plan_.buffers[index].bytes;
    store.offset = places_[index].offset;
    switch (place.where) {
      case wire::Where::Store:
        KAAS_RETURN_IF_ERROR(store_object(place, store));
        break;
      case wire::Where::Segment:
      case wire::Where::Ipc:
        KAAS_RETURN_IF_ERROR(store_segment(index, place, store));
        break;
      case wire::Where::Inline:
        if (store.bytes > kInlineBytesMax) {
          return over_limit(StatusCode::InvalidArgument,
                            buffer_name(plan_.buffers[index]) + " is an inline output; its size",
                            store.bytes, kInlineBytesMax);
        }
        store.kind = BoundStore::Kind::Inline;
        break;
    }
    bound_.stores.push_back(std::move(store));
    return {};
  }

  Result<void> load_object(std::uint16_t index, const Place& place, BoundLoad& load) {
    KAAS_ASSIGN_OR_RETURN(const ScopedKey key, parse_key(place.key, context_.uid));
    const auto pending = context_.history.pending_write(key.namespace_uid, key.key);
    if (pending.run != 0 && pending.version == nullptr) {
      blocked_on_ = pending.run;
      return {};
    }
    if (pending.run != 0) {
      load.version = pending.version;
      load.producer = pending.run;
      bound_.after.push_back(pending.run);
    } else {
      KAAS_ASSIGN_OR_RETURN(load.version,
                            context_.store.lookup(context_.uid, key.namespace_uid, key.key));
    }
    return fit(index, load, load.version->bytes(), [&] { return "object '" + place.key + "'"; });
  }

  Result<void> load_segment(std::uint16_t index, const Place& place, BoundLoad& load) {
    KAAS_ASSIGN_OR_RETURN(load.segment, find_segment(index, place));
    load.offset = object_position(place, load.offset);
    KAAS_RETURN_IF_ERROR(fit(index, load, load.segment->bytes, [&] { return name_of(place); }));
    bound_.accesses.push_back({load.segment->id, load.offset, plan_.buffers[index].bytes, false});
    return {};
  }

  Result<void> load_inline(std::uint16_t index, const Place& place, BoundLoad& load) {
    const TemplateBuffer& buffer = plan_.buffers[index];
    // The template's own bytes become a version once; the device cache then knows it, too.
    const bool own = &place == &buffer.place;
    if (own) {
      context_.inline_versions.resize(plan_.buffers.size());
      load.version = context_.inline_versions[index];
    }
    if (load.version == nullptr) {
      KAAS_ASSIGN_OR_RETURN(load.version,
                            context_.store.make_from_bytes(context_.uid, buffer.name,
                                                           std::span<const std::byte>(place.data)));
      if (own) context_.inline_versions[index] = load.version;
    }
    load.offset = 0;
    return fit(index, load, place.data.size(), [] { return std::string("inline data"); });
  }

  // Checks that the buffer's bytes exist in `size` bytes of what `what` names, or may be
  // zero-filled.
  template <class What>
  Result<void> fit(std::uint16_t index, BoundLoad& load, std::uint64_t size, const What& what) {
    const TemplateBuffer& buffer = plan_.buffers[index];
    if (load.offset <= size) load.available = std::min(buffer.bytes, size - load.offset);
    if (load.available == buffer.bytes || (buffer.zero_fill && load.offset <= size)) return {};
    return check_range(buffer_name(buffer), load.offset, buffer.bytes, size).has_value()
               ? Result<void>()
               : Status{StatusCode::InvalidArgument, buffer_name(buffer) + " wants bytes [" +
                                                         std::to_string(load.offset) + ", " +
                                                         std::to_string(load.offset) + " + " +
                                                         std::to_string(buffer.bytes) + "), " +
                                                         what() + " has " + std::to_string(size)};
  }

  Result<void> store_object(const Place& place, BoundStore& store) {
    KAAS_ASSIGN_OR_RETURN(const ScopedKey key, parse_key(place.key, context_.uid));
    KAAS_RETURN_IF_ERROR(context_.store.check_write(context_.uid, key.namespace_uid, key.key));
    const auto pending = context_.history.pending_write(key.namespace_uid, key.key);
    store.namespace_uid = key.namespace_uid;
    store.key = std::string(key.key);
    if (store.offset != 0 || has_sibling(place.key)) {
      store.kind = BoundStore::Kind::Slice;
      // Its base is what the ring made before it.
      if (pending.run != 0) blocked_on_ = pending.run;
      if (pending.run != 0 || store.bytes <= kSlabObjectBytesMax) return {};
      // Too large for the outbox: an object of its own carries it until the slices are joined.
      KAAS_ASSIGN_OR_RETURN(store.version,
                            context_.store.create_output(key.namespace_uid, key.key, store.bytes));
      return {};
    }
    if (pending.run != 0) bound_.after.push_back(pending.run);
    KAAS_ASSIGN_OR_RETURN(store.version,
                          context_.store.create_output(key.namespace_uid, key.key, store.bytes));
    return {};
  }

  // Whether another output of this request goes to the same key.
  [[nodiscard]] bool has_sibling(std::string_view key) {
    if (stored_keys_.empty()) {
      for (const std::uint16_t store : plan_.stores) {
        const Place& place = *places_[store].place;
        if (place.where == wire::Where::Store) stored_keys_.push_back(place.key);
      }
      std::sort(stored_keys_.begin(), stored_keys_.end());
    }
    const auto first = std::lower_bound(stored_keys_.begin(), stored_keys_.end(), key);
    return stored_keys_.end() - first > 1 && first[1] == key;
  }

  Result<void> store_segment(std::uint16_t index, const Place& place, BoundStore& store) {
    store.kind = BoundStore::Kind::Segment;
    KAAS_ASSIGN_OR_RETURN(store.segment, find_segment(index, place));
    store.offset = object_position(place, store.offset);
    const TemplateBuffer& buffer = plan_.buffers[index];
    if (!store.segment->writable) {
      return Status{StatusCode::PermissionDenied, buffer_name(buffer) + " is an output, segment " +
                                                      std::to_string(place.segment) +
                                                      " was registered read-only"};
    }
    const auto name = [&] { return buffer_name(buffer) + " in " + name_of(place); };
    KAAS_RETURN_IF_ERROR(check_range(name, store.offset, store.bytes, store.segment->bytes));
    bound_.accesses.push_back({store.segment->id, store.offset, store.bytes, true});
    return {};
  }

  // Whether some byte is both read and written in place.
  [[nodiscard]] bool overwrites_input() const {
    // Loads come before stores.
    const auto& accesses = bound_.accesses;
    if (accesses.empty() || accesses.front().writes || !accesses.back().writes) return false;
    boost::container::small_vector<SegmentAccess, kUsualBuffers> sorted(accesses.begin(),
                                                                        accesses.end());
    std::sort(sorted.begin(), sorted.end(), [](const SegmentAccess& a, const SegmentAccess& b) {
      return std::pair(a.segment, a.offset) < std::pair(b.segment, b.offset);
    });
    // Of those before, by read or written: which reaches farthest.
    const SegmentAccess* reach[2] = {};
    for (const SegmentAccess& now : sorted) {
      if (now.bytes == 0) continue;
      const SegmentAccess* const other = reach[now.writes ? 0 : 1];
      if (other != nullptr && other->segment == now.segment &&
          now.offset - other->offset < other->bytes) {
        return true;
      }
      const SegmentAccess*& own = reach[now.writes ? 1 : 0];
      if (own == nullptr || own->segment != now.segment ||
          own->offset + own->bytes < now.offset + now.bytes) {
        own = &now;
      }
    }
    return false;
  }

  static std::string name_of(const Place& place) {
    return place.where == wire::Where::Ipc ? "the allocation of its IPC handle"
                                           : "segment " + std::to_string(place.segment);
  }

  // Bytes of device memory that a buffer names, by handle or by segment number.
  struct NamedBytes {
    SegmentAccess access;
    std::uint16_t buffer = 0;
    bool by_handle = false;
  };

  [[nodiscard]] std::vector<NamedBytes> named_device_bytes() const {
    std::vector<NamedBytes> named;
    const auto add = [&](std::uint16_t buffer, const SegmentRef& segment, std::uint64_t offset,
                         bool writes) {
      if (segment == nullptr || segment->kind != SegmentKind::Device) return;
      named.push_back({{segment->id, offset, plan_.buffers[buffer].bytes, writes},
                       buffer,
                       places_[buffer].place->where == wire::Where::Ipc});
    };
    for (std::size_t i = 0; i < plan_.loads.size(); ++i) {
      add(plan_.loads[i], bound_.loads[i].segment, bound_.loads[i].offset, false);
    }
    for (std::size_t i = 0; i < plan_.stores.size(); ++i) {
      add(plan_.stores[i], bound_.stores[i].segment, bound_.stores[i].offset, true);
    }
    return named;
  }

  // The template takes bytes by handle and bytes by segment number for different memory. Where the
  // session has one allocation under both names, its order of kernels could be wrong.
  [[nodiscard]] Result<void> check_names() const {
    if (!has_handles_) return {};
    std::vector<NamedBytes> named = named_device_bytes();
    std::sort(named.begin(), named.end(), [](const NamedBytes& a, const NamedBytes& b) {
      return std::pair(a.access.segment, a.access.offset) <
             std::pair(b.access.segment, b.access.offset);
    });
    // Of those before, by [handle or number][written or read]: which reaches farthest.
    const NamedBytes* reach[2][2] = {};
    for (const NamedBytes& now : named) {
      for (const bool other_writes : {true, false}) {
        const NamedBytes* other = reach[now.by_handle ? 0 : 1][other_writes ? 1 : 0];
        if (other == nullptr || !(now.access.writes || other_writes)) continue;
        if (other->access.segment != now.access.segment ||
            other->access.offset + other->access.bytes <= now.access.offset) {
          continue;
        }
        return two_names(now.by_handle ? now : *other, now.by_handle ? *other : now);
      }
      const NamedBytes*& own = reach[now.by_handle ? 1 : 0][now.access.writes ? 1 : 0];
      if (own == nullptr || own->access.segment != now.access.segment ||
          own->access.offset + own->access.bytes < now.access.offset + now.access.bytes) {
        own = &now;
      }
    }
    return {};
  }

  [[nodiscard]] Status two_names(const NamedBytes& by_handle, const NamedBytes& by_number) const {
    return Status{StatusCode::InvalidArgument,
                  buffer_name(plan_.buffers[by_handle.buffer]) + " (by IPC handle) and " +
                      buffer_name(plan_.buffers[by_number.buffer]) + " (in segment " +
                      std::to_string(by_number.access.segment) +
                      ") are the same device memory, and one is written: name both by segment"};
  }

  Result<SegmentRef> find_segment(std::uint16_t index, const Place& place) {
    SegmentRef segment;
    if (place.where == wire::Where::Ipc) {
      KAAS_ASSIGN_OR_RETURN(segment, context_.handles.segment_of(place));
      has_handles_ = true;
    } else {
      const auto found = context_.segments.find(place.segment);
      if (found == context_.segments.end()) {
        return Status{StatusCode::NotFound, buffer_name(plan_.buffers[index]) + " is in segment " +
                                                std::to_string(place.segment) +
                                                ", which this session does not have"};
      }
      segment = found->second;
    }
    if (segment->kind == SegmentKind::Event) {
      return Status{StatusCode::InvalidArgument,
                    buffer_name(plan_.buffers[index]) + " is in segment " +
                        std::to_string(place.segment) + ", which is an event and has no bytes"};
    }
    if (segment->kind == SegmentKind::Device) bound_.device_memory = true;
    return segment;
  }

  const PlanTemplate& plan_;
  std::span<const BufferPlace> places_;
  const BindContext& context_;
  BoundRun& bound_;
  bool has_handles_ = false;
  // Of outputs in the store, sorted; made when the first of them is bound.
  boost::container::small_vector<std::string_view, kUsualBuffers> stored_keys_;
  std::uint64_t blocked_on_ = 0;
};

}  // namespace

Result<ScopedKey> parse_key(std::string_view key, uid_t own_uid) {
  if (key.empty() || key.front() != '@') return ScopedKey{own_uid, key};
  const std::size_t slash = key.find('/');
  std::uint32_t uid = 0;
  const char* const end = key.data() + (slash == std::string_view::npos ? key.size() : slash);
  const auto [rest, error] = std::from_chars(key.data() + 1, end, uid);
  // One object has one name: neither "@01/x" nor one's own uid.
  const bool leading_zero = key.size() > 2 && key[1] == '0' && key[2] != '/';
  if (slash == std::string_view::npos || error != std::errc() || rest != end || leading_zero ||
      slash + 1 == key.size() || uid == own_uid) {
    return Status{StatusCode::InvalidArgument,
                  "key '" + std::string(key) +
                      "' begins with '@', which is for keys of another uid: allowed is '@UID/KEY', "
                      "and just 'KEY' for one's own"};
  }
  return ScopedKey{uid, key.substr(slash + 1)};
}

Result<BindOutcome> bind_run(const PlanTemplate& plan, std::span<const BufferPlace> places,
                             const BindContext& context, BoundRun& bound) {
  bound.clear();
  auto outcome = Binder(plan, places, context, bound).run();
  if (!outcome.has_value() || outcome->blocked_on != 0) bound.clear();
  return outcome;
}

}  // namespace kaas
