// A lease that the kernel sends: nothing is copied, and it may end while it is being sent.
import { LargePool } from "holdfast";

using pool = new LargePool({ pages: "memfd" });
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch() {
    const page = pool.allocUnsafe(8 * 1024 ** 2);
    page.bytes.fill(7);
    // Bun opens the file when this handler has returned, and has the memory from then on.
    setImmediate(() => page.free());
    return new Response(page.file());
  },
});

const answer = await fetch(server.url);
const bytes = await answer.bytes();
console.log(
  answer.headers.get("content-length"),
  bytes.every((byte) => byte === 7),
);
await server.stop(true);
console.log(`${pool.stats().liveHandles} leases`);

// Prints:
// 8388608 true
// 0 leases
