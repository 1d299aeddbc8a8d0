/** Version of the package: copies of another version in the same realm are refused by it. */
export const VERSION = "0.1.0";
