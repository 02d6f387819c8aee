// A validator in JavaScript: the value is a JSON object whose `id` is a text of at least `min_length` characters.

// `fatal`: bytes that are not UTF-8 are an error and no replacement characters.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
let minLength = 1;

export const validation = {
  configure(json) {
    const { min_length = 1, ...unknown } = JSON.parse(json);
    const names = Object.keys(unknown);
    // What is thrown here is the error of the WIT function: the operator sees the text.
    if (names.length > 0) throw `config: unknown key ${names.sort().join(", ")}`;
    if (!Number.isInteger(min_length) || min_length < 1) throw "config: min_length is not a number from 1";
    minLength = min_length;
  },

  // `validate` has no error in WIT, so an exception that leaves it ends the instance and is a fault of the message.
  validate(message, value) {
    if (value === undefined) return reject(message, "null_value", "the value is null");
    let order;
    try {
      order = JSON.parse(utf8.decode(value));
    } catch {
      return reject(message, "not_json", "the value is not JSON");
    }
    const isObject = typeof order === "object" && order !== null && !Array.isArray(order);
    const id = isObject && Object.hasOwn(order, "id") ? order.id : undefined;
    // Characters, not the UTF-16 units that `length` counts.
    if (typeof id !== "string" || [...id].length < minLength) {
      return reject(message, "no_id", `id is not a text of ${minLength} characters or more`);
    }
    return "pass";
  },
};

function reject(message, code, detail) {
  message.reason(code, detail);
  return "reject";
}
