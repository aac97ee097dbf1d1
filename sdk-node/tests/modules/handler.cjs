// The same idea as CommonJS, exported by name.
exports.handler = ({ value }, ctx) => ({ value, type: ctx.type, required: require.main === undefined });
