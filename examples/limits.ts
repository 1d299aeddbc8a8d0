// Every refusal is an error with a code, and a refused request changes nothing.
import { HoldfastError, LargePool } from "holdfast";

using pool = new LargePool({ limitBytes: 64 * 1024 ** 2 });

function attempt(what: string, action: () => unknown): void {
  try {
    action();
    console.log(`${what}: done`);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    console.log(`${what}: ${error.code}`);
  }
}

const lease = pool.alloc(48 * 1024 ** 2);
attempt("32 MiB more", () => pool.alloc(32 * 1024 ** 2));
attempt("8 MiB more", () => pool.alloc(8 * 1024 ** 2).free());
attempt("close", () => pool.close());
attempt("free", () => lease.free());
attempt("free again", () => lease.free());
attempt("a class that does not exist", () => pool.alloc(65 * 1024 ** 3));

// Prints:
// 32 MiB more: ERR_HOLDFAST_LIMIT
// 8 MiB more: done
// close: ERR_HOLDFAST_BUSY
// free: done
// free again: ERR_HOLDFAST_DOUBLE_FREE
// a class that does not exist: ERR_HOLDFAST_SIZE_CLASS
