// usage: consumer LIBRARY KERNEL: what the kernel (count, in, out) makes of the bytes 1, 2, 3.
#include <kaas/client.h>

#include <cstdio>

int main(int, char** argv) {
  const std::byte input[] = {std::byte{1}, std::byte{2}, std::byte{3}};
  kaas::RequestBuilder builder;
  builder.buffer("in", 3).inline_bytes(input);
  builder.buffer("out", 3).in_message();
  builder.kernel(argv[1], argv[2]).block(32).literal(std::uint64_t{3}).in("in").out("out");
  auto client = kaas::Client::connect();
  auto reply = client ? client->run(*builder.build()) : kaas::Result<kaas::Reply>(client.error());
  if (!reply) return std::fprintf(stderr, "%s\n", reply.error().message.c_str()), 1;
  for (std::byte value : reply->data("out")) std::printf("%d ", std::to_integer<int>(value));
}
