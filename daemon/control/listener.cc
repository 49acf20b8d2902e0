#include "daemon/control/listener.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "schema/ipc/socket.h"
#include "schema/limits.h"

namespace kaas {
namespace {

// Ends the socket's name until it listens: who sees its path can connect.
constexpr std::string_view kUnready = ".new";
static_assert(kSocketPathBytesMax + kUnready.size() < sizeof sockaddr_un::sun_path);

Status errno_status(StatusCode code, const std::string& what) {
  if (errno == EACCES || errno == EPERM || errno == EROFS) code = StatusCode::PermissionDenied;
  return Status{code, what + ": " + std::strerror(errno)};
}

Result<void> make_folder(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) return {};
  std::error_code error;
  if (std::filesystem::exists(folder, error)) return {};
  std::filesystem::create_directories(folder.parent_path(), error);
  const mode_t mode = folder == "/run/kaas" ? 0755 : 0700;
  if (::mkdir(folder.c_str(), mode) != 0 && errno != EEXIST) {
    return errno_status(StatusCode::InvalidArgument, "socket folder '" + folder.string() + "'");
  }
  return {};
}

// Whether `descriptor` is still what `path` names: a daemon that ends removes its lock.
bool is_still(int descriptor, const std::string& path) {
  struct stat held {};
  struct stat named {};
  return ::fstat(descriptor, &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
         held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

// Takes the lock, or says who has it.
Result<Descriptor> take_lock(const std::string& path) {
  const std::string lock_path = path + ".lock";
  Descriptor lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock) return errno_status(StatusCode::InvalidArgument, "lock '" + lock_path + "'");
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) {
    if (!is_still(lock.get(), lock_path)) return take_lock(path);
    const std::string pid = std::to_string(::getpid()) + "\n";
    if (::ftruncate(lock.get(), 0) != 0 ||
        ::pwrite(lock.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
      return errno_status(StatusCode::ResourceExhausted, "lock '" + lock_path + "'");
    }
    return lock;
  }
  char holder[32] = {};
  const ssize_t bytes = ::pread(lock.get(), holder, sizeof holder - 1, 0);
  std::string who(holder, bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
  while (!who.empty() && who.back() == '\n') who.pop_back();
  return Status{StatusCode::AlreadyExists, "socket '" + path +
                                               "' is held by the kaasd with process id " +
                                               (who.empty() ? "unknown" : who)};
}

Result<void> set_group(const ListenerOptions& options, const std::string& path) {
  if (options.group.empty()) return {};
  const group* entry = ::getgrnam(options.group.c_str());
  if (entry == nullptr) {
    return Status{StatusCode::InvalidArgument,
                  "socket_group is '" + options.group + "', which is no group of this machine"};
  }
  if (::chown(path.c_str(), static_cast<uid_t>(-1), entry->gr_gid) == 0) return {};
  return errno_status(StatusCode::PermissionDenied, "socket_group '" + options.group + "'");
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// Whether the path may be taken, by who holds its lock: a socket that nobody listens at is of a
// daemon that was killed. Anything else is another program's.
Result<void> check_free(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode)) {
    return Status{StatusCode::InvalidArgument,
                  "socket path '" + path + "' exists and is not a socket"};
  }
  const Descriptor probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return errno_status(StatusCode::ResourceExhausted, "socket");
  const sockaddr_un address = address_of(path);
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(probe.get(), name, sizeof address) != 0 && errno == ECONNREFUSED) return {};
  return Status{StatusCode::AlreadyExists,
                "socket '" + path + "' is used by another program than kaasd"};
}

// Binds and listens under the name `unready`, then gives the socket its own.
Result<void> publish(int socket, const ListenerOptions& options, const std::string& unready) {
  const auto failed = [&] {
    return errno_status(StatusCode::InvalidArgument, "socket '" + options.path + "'");
  };
  const sockaddr_un address = address_of(unready);
  // Nobody can connect between bind and chmod: the socket does not listen yet.
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  if (::bind(socket, name, sizeof address) != 0) return failed();
  KAAS_RETURN_IF_ERROR(set_group(options, unready));
  if (::chmod(unready.c_str(), options.mode) != 0 || ::listen(socket, SOMAXCONN) != 0 ||
      ::rename(unready.c_str(), options.path.c_str()) != 0) {
    return failed();
  }
  return {};
}

}  // namespace

Result<Listener> Listener::create(const ListenerOptions& options) {
  if (options.path.empty() || options.path.size() > kSocketPathBytesMax) {
    return over_limit(StatusCode::InvalidArgument, "length of socket path '" + options.path + "'",
                      options.path.size(), kSocketPathBytesMax);
  }
  KAAS_RETURN_IF_ERROR(make_folder(options.path));
  Listener listener;
  listener.path_ = options.path;
  KAAS_ASSIGN_OR_RETURN(listener.lock_, take_lock(options.path));
  KAAS_RETURN_IF_ERROR(check_free(options.path));
  const std::string unready = options.path + std::string(kUnready);
  ::unlink(unready.c_str());
  Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno_status(StatusCode::ResourceExhausted, "socket");
  const auto published = publish(socket.get(), options, unready);
  if (!published.has_value()) ::unlink(unready.c_str());
  KAAS_RETURN_IF_ERROR(published);
  listener.socket_ = std::move(socket);
  return listener;
}

Listener::~Listener() {
  if (!lock_) return;
  // The socket first: while the lock is held nobody takes the path over.
  if (socket_) ::unlink(path_.c_str());
  ::unlink((path_ + ".lock").c_str());
}

Descriptor Listener::accept() const noexcept {
  return Descriptor(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

}  // namespace kaas
