// A lease freed while Bun still reads a file into it is not reused before the read is over.
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allocUnsafe, stats } from "holdfast";

const folder = await mkdtemp(join(tmpdir(), "holdfast-"));
const path = join(folder, "file");
await writeFile(path, new Uint8Array(32 * 1024 ** 2).fill(7));
const file = await open(path);

const lease = allocUnsafe(32 * 1024 ** 2);
const view = lease.bytes;
const reading = file.read(view, 0, view.length, 0); // not awaited: the buffer is pinned
console.log(lease.free()); // dead for us, but Bun is still writing to it

await reading;
while (stats().closingHandles > 0) await Bun.sleep(1); // comes back by itself
console.log(`${view.length} bytes in the view, ${stats().liveHandles} leases`);

await file.close();
await rm(folder, { recursive: true });

// Prints:
// closing
// 0 bytes in the view, 0 leases
