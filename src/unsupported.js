/**
 * What every runtime but Bun gets: holdfast calls native code through bun:ffi. In the package
 * scripts/pack.ts adds the names of src/index.ts as exports, since other runtimes link names before
 * they run anything.
 */
throw Object.assign(
  new Error(
    "holdfast runs in Bun 1.4 or newer: start your program with `bun`, not with node or deno",
  ),
  { name: "HoldfastError", code: "ERR_HOLDFAST_UNSUPPORTED", operation: "import holdfast" },
);
