"""Every message that a user can meet: what is wrong, the value seen, what to do."""

# Not for a shared encoder, nor when one is pretrained.
_LEAVE_UNTRAINED = (
    "Or, if only one component uses the encoder, leave it untrained: grad_factor = 0.0."
)

_OTHER_MODEL = (
    "The checkpoint is of model_type '{found}', but this package reads 'modernbert' "
    "only. For a '{found}' encoder, use the component 'transformer' of "
    "spacy-transformers, with the architecture 'spacy-transformers.TransformerModel.v3'"
)


class Errors:
    """Messages of exceptions, to be completed with `str.format`."""

    # What travels between the rooms
    BAD_CU_SEQLENS = (
        "A packed batch needs cu_seqlens that start at 0, rise strictly and end at "
        "the number of wordpieces ({total}), but they are {cu_seqlens}. This is a bug "
        "in spacy-modernbert: please report it."
    )

    # documents/
    NO_TOKENIZER_FILE = (
        "There is no tokenizer at {path}. Give a folder that holds a tokenizer.json, "
        "or the file itself: transformers writes one with "
        "AutoTokenizer.from_pretrained(name).save_pretrained(folder)."
    )
    BAD_TOKENIZER_JSON = (
        "{source} is not a tokenizer.json that the tokenizers library can read: "
        "{reason}. Download the file again, or update the tokenizers package if a "
        "newer version wrote it."
    )
    TOKENIZER_WITHOUT_OFFSETS = (
        "This tokenizer gives no character offsets for its wordpieces (all are "
        "(0, 0)), so they cannot be aligned with spaCy's tokens. Use the fast "
        "tokenizer (tokenizer.json) that the model was published with."
    )
    TOKENIZER_WITHOUT_WORDPIECES = (
        "This tokenizer finds no wordpieces in any of the texts {texts}: its "
        "vocabulary seems to be empty or incomplete. Use the tokenizer.json that the "
        "model was published with."
    )
    SPANS_LEAVE_TOKENS = (
        "Token {token} of a Doc of {n_tokens} tokens is in none of the span getter's "
        "spans, so it would have no vector. Use a span getter whose spans cover every "
        "token, such as spacy-modernbert.long_context_spans.v1."
    )
    TOKENIZER_TOO_LARGE = (
        "{source} has wordpiece ids up to {largest}, but the encoder has vectors for "
        "{vocab_size} wordpieces only: they do not belong together. Check that "
        "tokenizer.json and config.json are of the same checkpoint."
    )

    # span_getters
    BAD_WINDOW = (
        "The window must be a whole number of wordpieces, at least {minimum}, but it "
        "is {value!r}. The default is 8192."
    )
    BAD_OVERLAP = (
        "The overlap of windows must be a whole number of wordpieces, at least 0 and "
        "less than the window ({window}), but it is {value!r}. The default is 512."
    )
    WINDOW_OVER_LIMIT = (
        "The window of {window} wordpieces is more than this model can take, which is "
        "{limit}. Set window to {limit} or less."
    )
    BATCH_UNDER_WINDOW = (
        "max_batch_wordpieces is {value}, less than one window of {window} wordpieces. "
        "Set max_batch_wordpieces to {window} or more, or shorten the window."
    )
    BATCH_UNDER_LEAST = (
        "max_batch_wordpieces is {value}, less than any window holds. Set it to "
        "{least} or more."
    )

    # batchers
    BAD_BATCHER_SIZE = (
        "The batcher's size must be a whole number of wordpieces, at least 1, or a "
        "schedule of numbers that are at least 1, but it is {value!r}."
    )
    BAD_BATCHER_BUFFER = (
        "The batcher's buffer must be a whole number of documents, at least 1, or "
        "null to keep documents in order, but it is {value!r}."
    )
    BAD_BATCHER_LENGTH = (
        "The batcher's get_length must be a function of one document or null, but it "
        "is {value!r}."
    )
    BATCHER_TWO_LENGTHS = (
        "The batcher has both a tokenizer ({tokenizer}) and a get_length, which are "
        "two ways of counting. Set one of them to null."
    )

    # encoder/: the switch
    UNKNOWN_BACKEND = (
        "There is no backend {value!r}. Use one of: {known}. It is set by `backend` in "
        "the config of the architecture, or by the environment variable "
        "SPACY_MODERNBERT_BACKEND, which wins over every config."
    )
    BACKEND_UNAVAILABLE = (
        'The backend {value!r} cannot run here. {missing} Or set backend = "auto", '
        "which takes the best one that can run here; `python -m spacy modernbert info` "
        "shows which one that is."
    )
    BACKEND_CANNOT_TRAIN = (
        "The backend {value!r} can only predict, not train. Train with "
        'backend = "auto", "cuda", "mps", "mlx" or "cpu": what is saved then loads '
        "with any backend. " + _LEAVE_UNTRAINED
    )
    BACKEND_OF_VARIABLE = (
        "{error} (The environment variable {variable} is {value!r}, and wins over "
        "every config: unset it, or set it to another backend.)"
    )
    QUANTIZED_CANNOT_TRAIN = (
        "The encoder is quantized (quantization = {value}), and quantized weights "
        "cannot be trained. Train with quantization = null, and set quantization in "
        "the config.cfg of the trained pipeline afterwards. " + _LEAVE_UNTRAINED
    )
    PRECISION_CANNOT_TRAIN = (
        "An encoder in {value!r} can only predict: most gradients are too small for "
        'float16. Train with precision = "bfloat16", "float32" or "auto". '
        + _LEAVE_UNTRAINED
    )
    WEIGHTS_CANNOT_TRAIN = (
        "The encoder's checkpoint is quantized ({bits} bits), and quantized weights "
        "cannot be trained by MLX. Train with another backend, which loads the weights "
        "in float32; or convert the checkpoint to float32 and start from the result: "
        "`python -m spacy modernbert convert CHECKPOINT OUTPUT --bits 32`. "
        + _LEAVE_UNTRAINED
    )
    MLX_FORKED = (
        "MLX was in use on the GPU before this process was forked, and it does not "
        "work in a fork. Spawn processes instead: call "
        'multiprocessing.set_start_method("spawn") before nlp.pipe(n_process=...).'
    )
    PRECISION_UNAVAILABLE = (
        "The backend {backend!r} has no precision {value!r} here. Use one of: {known}."
    )
    QUANTIZED_PRECISION = (
        "With quantization, the backend {backend!r} multiplies in float32 only, but "
        "the precision is {value!r}. Set precision to 'float32' or 'auto', or "
        "quantization to null."
    )
    QUANTIZATION_UNAVAILABLE = (
        "The backend {backend!r} has no quantization {value} here. Set quantization to "
        "{known}; or set another backend: {others}."
    )
    DEVICE_OUT_OF_MEMORY = (
        "The device {device} has too little memory left for a pass of {total} "
        "wordpieces in {n_seqs} windows. If there are several windows, set "
        "max_batch_wordpieces lower. If there is only one, shorten the window or free "
        "memory on the device; training also takes less with "
        "gradient_checkpointing = true or frozen_layers."
    )
    STEP_OUT_OF_MEMORY = (
        "The device {device} has too little memory left for what the optimizer keeps "
        "of each weight that is trained: two numbers, and one more with use_averages. "
        "Free memory on it, train fewer layers (frozen_layers), or start from a "
        "smaller encoder."
    )
    CHECKPOINTING_DROPS_OUT = (
        "gradient_checkpointing is true, but on MPS nothing can be recomputed where "
        "the encoder has dropout: torch would drop out something else the second time. "
        "Set gradient_checkpointing to 'auto' or false, set every *_dropout in the "
        "encoder's config.json to 0.0, or set backend to 'mlx' or 'cpu'."
    )
    TOO_MANY_FROZEN = (
        "frozen_layers is {value}, but the encoder has {n_layers} layers. Set it to "
        "{n_layers} or less; {n_layers} trains nothing but the final norm."
    )
    BAD_BETAS = (
        "The optimizer has beta1 = {beta1} and beta2 = {beta2}. Both must be at least "
        "0 and less than 1, and if beta1 is 0 (SGD), beta2 must be 0 as well, except "
        "in RAdam. The defaults of Adam are 0.9 and 0.999."
    )
    BAD_QUANTIZATION = (
        "quantization is {value!r}, but it must be null, or a block with bits = 8 (or "
        "4, by MLX) and, by MLX, a group_size of 32, 64 or 128."
    )
    UNKNOWN_PRECISION = "There is no precision {value!r}. Use one of: {known}."

    UNKNOWN_POOLING = "There is no pooling {value!r}. Use one of: {known}."
    UNSUPPORTED_POOLING = (
        "sentence-transformers makes the vectors of this checkpoint with {found}, "
        "which is not supported here. Give pooling = 'cls' or 'mean' to have vectors "
        "of another kind, or make them with sentence-transformers."
    )
    UNSUPPORTED_CLASSIFIER_POOLING = (
        "The encoder's config has classifier_pooling = {found!r}, which is not "
        "supported here. Give pooling = 'cls' or 'mean', whichever the model was "
        "trained for."
    )

    # encoder/: config.json and the files of a checkpoint
    CONFIG_BAD_VALUE = (
        "The encoder's config has {key} = {value}, but it must be {wanted}. "
        "Correct config.json, or choose another checkpoint."
    )
    CONFIG_UNSUPPORTED = (
        "The encoder's config has {key} = {value}, but only {wanted} is supported "
        "here. Choose another checkpoint."
    )
    CONFIG_NO_MODEL_TYPE = (
        "The encoder's config has no model_type, so it is not known to be ModernBERT. "
        'If it is, add "model_type": "modernbert" to config.json.'
    )
    CONFIG_OTHER_MODEL = _OTHER_MODEL + "."
    CONFIG_OTHER_MODEL_CURATED = (
        _OTHER_MODEL + ", or the component 'curated_transformer' of "
        "spacy-curated-transformers."
    )
    CONFIG_IS_DECODER = (
        "The checkpoint is of model_type '{found}': a decoder, in which a word attends "
        "only to what comes before it. Use an encoder of model_type 'modernbert', or "
        "the component 'transformer' of spacy-transformers, with the architecture "
        "'spacy-transformers.TransformerModel.v3'."
    )
    CHECKPOINT_IS_FILE = (
        "'{name}' is a file, but a checkpoint is a folder. Try '{parent}'."
    )
    CHECKPOINT_NO_FOLDER = (
        "There is no folder '{path}'. Give the folder of a checkpoint (config.json, "
        "tokenizer.json, model.safetensors) or the id of a repository on the Hugging "
        "Face hub, such as 'answerdotai/ModernBERT-base'."
    )
    HUB_GATED = (
        "The repository '{name}' on the Hugging Face hub is gated. Ask for access on "
        "its page and log in with `hf auth login`, or give the folder of a local copy."
    )
    HUB_UNKNOWN = (
        "'{name}' is neither a folder here nor a repository that the Hugging Face hub "
        "shows you. Check the spelling; if it is private, log in with `hf auth login`; "
        "if you mean a folder, check that it exists."
    )
    HUB_NO_REVISION = (
        "The repository '{name}' on the Hugging Face hub has no revision "
        "'{revision}'. Give a commit, a tag or a branch, or null for the newest."
    )
    HUB_UNREACHABLE = (
        "'{name}' is not a folder here, and could not be downloaded from the Hugging "
        "Face hub ({error}). If you mean a folder, check that it exists. If this "
        "machine has no network, download the checkpoint on one that has "
        "(`hf download {name}`), copy it here and give its folder. If HF_HUB_OFFLINE "
        "is set, unset it to allow the download."
    )
    CHECKPOINT_NO_FILE = (
        "The checkpoint '{folder}' has no {file}. Is this the right folder? If the "
        "download was cut short, download it again."
    )
    CHECKPOINT_IS_PIPELINE = (
        "'{folder}' is a pipeline, not the checkpoint of an encoder. The encoders in "
        "it are: {encoders}. Give one of these."
    )
    CHECKPOINT_IS_RUN = (
        "'{folder}' is the output of `modernbert pretrain`. Its checkpoint is "
        "'{encoder}': give that."
    )
    CHECKPOINT_BAD_JSON = (
        "'{path}' cannot be read: {why}. Restore the file or download it again."
    )
    CHECKPOINT_NO_TOKENIZER = (
        "The checkpoint '{folder}' has no tokenizer.json. If it has a tokenizer of "
        "another form, convert it with "
        "`AutoTokenizer.from_pretrained(...).save_pretrained(...)` of transformers."
    )
    CHECKPOINT_NO_TENSORS = (
        "The checkpoint '{folder}' has no model.safetensors and no "
        "model.safetensors.index.json. If it has only pytorch_model.bin, which is a "
        "pickle and not read because it can run code, convert it with "
        "`AutoModel.from_pretrained(...).save_pretrained(...)` of transformers. If "
        "the download was cut short, download it again."
    )
    CHECKPOINT_NO_SHARD = (
        "The index of the checkpoint '{folder}' names the file {shard}, which is not "
        "there. Copy all files of the checkpoint, or download it again."
    )
    CHECKPOINT_SHARD_ELSEWHERE = (
        "The index of the checkpoint '{folder}' names the file {shard}, and only files "
        "beside the index are read. Move the file there, and correct its name in "
        "{index}."
    )
    CHECKPOINT_NOT_IN_SHARD = (
        "The index of the checkpoint '{folder}' places the tensor {name} in the file "
        "{shard}, which does not hold it. Download the checkpoint again."
    )
    CHECKPOINT_TWICE = (
        "{where} has the tensor {name} twice, with and without the prefix 'model.'. "
        "Save the checkpoint again with transformers' `save_pretrained`."
    )
    CHECKPOINT_MISSING = (
        "{where} lacks {n} of the encoder's {total} tensors, the first being {name}. "
        "Its config.json may be that of another checkpoint, or the file incomplete."
    )
    CHECKPOINT_UNEXPECTED = (
        "{where} has {n} tensors that the encoder described by its config.json does "
        "not use, the first being {name}. The config.json may be that of another "
        "checkpoint."
    )
    CHECKPOINT_BAD_SHAPE = (
        "{where} has the tensor {name} in the shape {found}, but according to its "
        "config.json it should be {wanted}. The config.json may be that of another "
        "checkpoint."
    )
    CHECKPOINT_BAD_DTYPE = (
        "{where} has the tensor {name} as {found}, but only {wanted} can be read. "
        "If the checkpoint is quantized, use the one it was made from."
    )
    BAD_SCHEME = (
        "Weights cannot be quantized to {bits} bits in groups of {group_size}. Use 2, "
        "3, 4, 5, 6 or 8 bits (8 loses next to nothing) and groups of 32, 64 or 128."
    )
    SCHEME_FITS_NONE = (
        "The encoder has no weight whose row length is a multiple of {group_size}, so "
        "nothing can be quantized in groups of that size. Use a smaller group size, if "
        "there is one: 64 or 32."
    )
    QUANTIZED_OTHERWISE = (
        "{where} has the weight {name} quantized, but not {part}, which should be "
        'beside it in floating point. Only MLX\'s quantization of mode "affine" can be '
        "read. Use the checkpoint that this one was made from; "
        "`python -m spacy modernbert convert` quantizes it."
    )
    QUANTIZED_BAD_SHAPE = (
        "{where} has the quantized weight {name} in the shapes {found} (integers, "
        "scales, biases), which are not those of a weight of shape {wanted}, as "
        "config.json requires. The config.json may be that of another checkpoint."
    )
    VECTORS_OF_OTHERS = (
        "Vectors of shape {found} cannot be compared with vectors of shape {wanted}: "
        "they have to be of the same wordpieces."
    )
    TENSORS_NOT_WRITTEN = (
        "'{path}' cannot be written: {why}. Check that there is room on the disk, and "
        "that you may write there."
    )
    TENSORS_CORRUPT = (
        "{where} is not a valid safetensors file: {why}. Copy or download it again."
    )
    TENSORS_INCOMPLETE = (
        "The encoder cannot be saved: it has no tensor {name}, which its config "
        "requires. Nothing was written."
    )
    TENSORS_BAD_SHAPE = (
        "The encoder cannot be saved: its tensor {name} has the shape {found}, but its "
        "config requires {wanted}. Nothing was written."
    )
    SAVE_IS_FILE = (
        "The encoder cannot be saved as the folder '{path}', which is a file. Choose "
        "another name, or remove the file."
    )
    SAVE_FOREIGN_FILES = (
        "The encoder cannot be saved as the folder '{folder}': saving replaces the "
        "folder, and it holds other files ({files}). Choose another folder."
    )

    # layers/, and what is registered or made with them
    ENCODER_NOT_LOADED = (
        "The encoder '{name}' has not been loaded. Call nlp.initialize() to start from "
        "that checkpoint, or load a trained pipeline with spacy.load()."
    )
    ENCODER_FOLDER_MISSING = (
        "The encoder of the component '{component}' should be in '{folder}', but there "
        "is no such folder. Copy the whole pipeline again, or save it again with "
        "nlp.to_disk()."
    )
    ENCODER_OTHER_WEIGHTS = (
        "The encoder in '{folder}' is not the one that '{model}' was saved with: its "
        "final_norm.weight is another. Saving may have been interrupted: save the "
        "pipeline again with nlp.to_disk(), or restore both from a copy. If you put "
        "another encoder there, restore the old one, and train a new pipeline with "
        "`name` set to the folder of the other: a model understands the vectors of "
        "the encoder only that it was trained with."
    )
    ENCODER_BAD_BYTES = (
        "These are not the bytes of an encoder, or they are damaged: {why}. Restore "
        "the file that they are from, or save the pipeline again."
    )
    ENCODER_FOLDER_NEEDED = (
        "The encoder was saved in a folder beside the model, so it cannot be loaded "
        "from the model's bytes alone. Load the whole component with from_disk(), or "
        "save it with to_bytes()."
    )
    ENCODER_OTHER_WIDTH = (
        "The encoder gives vectors of width {found}, but the model was trained on "
        "vectors of width {wanted}: they do not belong together. Use the encoder that "
        "the pipeline was saved with, or train again."
    )
    NO_ROOM_FOR_TEXT = (
        "The encoder takes {limit} wordpieces at most (max_position_embeddings in its "
        "config.json), and its tokenizer puts {n_special} special ones around each "
        "text, so no room is left for the text."
    )
    SPANS_END_WITHIN = (
        "In a shared transformer, the first span must start and the last span must end "
        "with the Doc, because spacy-transformers derives the Doc's tokens from them. "
        "For a Doc of {n_tokens} tokens, the span getter's first span starts at token "
        "{start} and its last ends before token {end}. Put the spans in another order, "
        "or give each component an encoder of its own."
    )
    BAD_BATCH_WORDPIECES = (
        "max_batch_wordpieces must be a whole number of wordpieces, at least 1, but "
        "it is {value!r}. The default is 16384."
    )
    LISTENERS_DIFFER = (
        "The listeners of this component differ in pooling or grad_factor, but spaCy "
        "replaces all of them from a single config. Give them the same pooling and the "
        "same grad_factor."
    )
    BAD_NAME = (
        "The name of an encoder must be a folder or a hub id, such as "
        "'answerdotai/ModernBERT-base', but it is {value!r}."
    )
    BAD_REVISION = (
        "The revision of an encoder must be a commit, a tag or a branch on the hub, or "
        "null, but it is {value!r}."
    )
    BAD_CHECKPOINTING = (
        "gradient_checkpointing must be true, false or 'auto', but it is {value!r}."
    )
    BAD_FROZEN_LAYERS = (
        "frozen_layers must be a whole number of layers, at least 0, but it is "
        "{value!r}. The default is 0, which trains all layers."
    )
    BAD_LAYER_LR_DECAY = (
        "layer_lr_decay must be a number above 0 and at most 1, but it is {value!r}. "
        "With the default, 1.0, all layers learn at the same rate; 0.9 is a usual "
        "value."
    )
    BAD_GRAD_FACTOR = (
        "grad_factor must be a number, at least 0, but it is {value!r}. The default is "
        "1.0; 0 keeps the encoder as it is."
    )
    BAD_KEPT_MB = "max_mb must be a number of megabytes above 0, but it is {value!r}."
    NOTHING_TO_KEEP = (
        "'spacy-modernbert.KeptVectors.v1' keeps the vectors of one encoder, but its "
        "tok2vec has {n_encoders} encoders. Give it a tok2vec with the architecture "
        "'spacy-modernbert.Tok2VecModernBert.v1'."
    )
    KEPT_IS_TRAINED = (
        "'spacy-modernbert.KeptVectors.v1' keeps vectors that stay the same, but the "
        "encoder of its tok2vec is trained: grad_factor is {value!r}. Set it to 0.0, "
        "or give the component the tok2vec directly, without KeptVectors."
    )
    KEPT_POOLING_TRAINED = (
        "'spacy-modernbert.KeptVectors.v1' keeps vectors that stay the same, but the "
        "pooling layer of its tok2vec, {pooling!r}, has weights that are trained. Use "
        "one without weights, such as 'reduce_mean.v1'."
    )
    NOT_INITIALIZED = (
        "The component '{component}' has no labels to learn. Call nlp.initialize() "
        "with examples first, or load a trained pipeline."
    )
    PARSER_BAD_WEIGHTS = (
        "The model that was loaded into the component '{component}' is damaged: in its "
        "layer '{layer}', the parameter {name} is {found}, but it should be {wanted}. "
        "Restore it from a copy, or save the component again."
    )
    PARSER_OTHER_SIZE = (
        "The model of the component '{component}' does not fit: its layer '{layer}' "
        "gives {found} numbers for each token, but {wanted} are needed. For scores, "
        "that is one for each action that the labels make. Load the model and the "
        "labels together: leave neither 'model' nor 'moves' out."
    )
    PARSER_OTHER_UPPER = (
        "The model that was loaded into the component '{component}' has use_upper = "
        "{found}, but the config says {wanted}. Set use_upper to {found} in the "
        "component's model, or restore the file from a copy."
    )
    BAD_UNSEEN = (
        "The settings of the component '{component}', in its file cfg, have {key} = "
        "{value!r}, but they must be a list of numbers of actions, of which there are "
        "{n_actions}. Restore the file, or save the component again."
    )
    OTHER_TOKENS = (
        "The component '{component}' was given {n_rows} vectors for {n_tokens} tokens. "
        "Another component has merged or split tokens after their vectors were made: "
        "put it before the one that makes them, or after '{component}'."
    )
    NO_DOC_VECTOR = (
        "The component '{component}' has set_doc_vector = true, but its model has "
        "{n_encoders} encoders of its own, and it takes exactly one to make the "
        "vector. Set it to false, or give the model one tok2vec with the architecture "
        "'spacy-modernbert.Tok2VecModernBert.v1'."
    )
    TEXT_IS_NO_STRING = (
        "Expected an iterable of texts, but texts[{i}] is of the type {kind}. Give "
        "strings: of a Doc, doc.text."
    )
    TEXT_HAS_SURROGATE = (
        "texts[{i}] has a lone surrogate, {char!a}, at position {at}: half of a "
        "character, which has no UTF-8. Replace it, as by "
        "text.encode('utf-8', 'replace').decode()."
    )
    TEXTS_ARE_ONE = (
        "Expected an iterable of texts, but got a single string: {value!r}. Pass a "
        "list: [text]."
    )
    DOC_WITHOUT_VECTOR = (
        "The Doc has no vector to use: none was set by a component with "
        "set_doc_vector = true, or its user data was left out when it was saved "
        "(DocBin keeps it with store_user_data=True)."
    )
    OTHER_VECTORS = (
        "The Doc's vector is {width} wide, but that of the {kind} is {other} wide, so "
        "they cannot be compared: one may come from an encoder, for example, and the "
        "other from the word vectors of the vocab. Compare Docs that have vectors of "
        "the same encoder."
    )
    BAD_OUTPUT_FILE = (
        "The output_file of the logger must be a path or null, but it is {value!r}. "
        "With null, the log is written to the output folder of the run."
    )
    BAD_MAX_LENGTH = (
        "The max_length of a pipeline must be a number of characters, at least 1, but "
        "it is {value!r}."
    )
    NEEDS_SPACY_TRANSFORMERS = (
        "The architecture '{name}' is made for the component 'transformer' of "
        "spacy-transformers, which is not installed. Install it with: "
        'pip install "spacy-modernbert[transformers]"'
    )

    # corpora/
    CORPUS_SOURCE_MISSING = (
        "There is no corpus at {source}. Run `python -m spacy project assets . "
        "--extra` to download the corpora, or give the folder of a git checkout or a "
        "tar archive of one."
    )
    CORPUS_FILES_MISSING = (
        "There is no file {pattern} in {source}. It should be a checkout of the "
        "corpus's git repository, whole or with at least the files that are needed, "
        "or a tar archive of one. Check that the path leads to the right corpus."
    )
    CORPUS_FILE_MISSING = (
        "The corpus has no file {path}, although the document that it belongs to is "
        "there. The checkout is incomplete: fetch the corpus again."
    )
    CORPUS_BAD_ARCHIVE = (
        "Cannot read {source} as a tar archive: {error}. If a download was cut short, "
        "delete the file and run `python -m spacy project assets . --extra` again."
    )
    CORPUS_MEMBER_TOO_LARGE = (
        "{name} in the archive {source} has {size:,} bytes, more than the {limit:,} "
        "that are read: no file of the corpus is as large. Download the archive again "
        "from the corpus's own repository."
    )
    CORPUS_FILE_OUTSIDE = (
        "{path} leads out of the folder {source}, to {target}. Only files in the "
        "folder are read: put a copy there, or give the folder that they are in."
    )
    CORPUS_NOT_UTF8 = (
        "The file {path} of the corpus is not UTF-8: {error}. Fetch the corpus again."
    )
    CORPUS_BAD_LINE = (
        "Line {number} of {path} is not an entity in brat's standoff format: {line!r}. "
        "It should read: identifier, tab, label, start, end, tab, text."
    )
    CORPUS_BAD_XML = (
        "The file {path} of the corpus is not valid XML: {error}. Fetch the corpus "
        "again."
    )
    CORPUS_DOCTYPE = (
        "The file {path} of the corpus declares the document type {name!r}. Knowtator "
        "writes none, and it could make the parser expand entities without end, so the "
        "file is refused. Fetch the corpus again from its own repository."
    )
    CORPUS_BAD_ANNOTATION = (
        "Cannot read an annotation in {path}: {error}. It reads {content}. Fetch the "
        "corpus again."
    )
    CORPUS_BAD_FRAGMENTS = (
        "The annotation {text!r} has the character spans {fragments}. It needs at "
        "least one, each a start of at least 0 and an end that is not before it, in "
        "the order of the text."
    )
    CORPUS_OFFSETS = (
        "In document {document}, the annotation of the characters {start} to {end} "
        "says {said!r}, but the text there is {found!r}. The text is not the one that "
        "was annotated. If git translated its line ends, clone the corpus again with "
        "`git clone -c core.autocrlf=false`."
    )
    CORPUS_UNKNOWN_LABEL = (
        "Document {document} has the labels {unknown}, but the corpus should have none "
        "other than {labels}. Check that this is the right layer of the corpus."
    )
    CORPUS_DOCUMENTS_MISSING = (
        "The splits of {corpus} name the documents {documents}, which are not in the "
        "source. The checkout is incomplete: fetch the corpus again."
    )
    CORPUS_BAD_SPLIT = (
        "Each document of {corpus} must be in exactly one split, but {documents} are "
        "in none or in several. Correct the table of splits."
    )
    CORPUS_BAD_COUNTS = (
        "{annotations} annotations were read, but {counted} are counted as entities or "
        "as dropped. This is a bug in spacy-modernbert: please report it."
    )

    CORPUS_PASSAGE_NOT_FOUND = (
        "The annotated passage of {document} is not found in the novel, so it cannot "
        "be cut out. Take both from the same release of LitBank."
    )

    # raw_texts
    NO_TEXTS = (
        'There is no file {path} to read texts from. Give a .jsonl file with a "text" '
        "on each line, a .spacy file or a folder of them, or a .txt file."
    )
    UNKNOWN_TEXTS = (
        "Texts cannot be read from {path}: its name should end in one of {known}."
    )
    TEXTS_NOT_UTF8 = (
        "{path} is not UTF-8 ({error}). Convert it, for example with `iconv -t utf-8`."
    )

    # pretraining/
    NO_TEXT = "There is no text in {path}. Give a file with at least one."
    EMPTY_TEXTS = (
        "There is no text in {path} that the tokenizer turns into wordpieces. Give a "
        "file with at least one."
    )
    NOTHING_MASKED = (
        "The held-out texts in {path} ({n_texts} in all) are so short that none of "
        "their wordpieces was masked, which leaves nothing for the model to predict. "
        "Give longer texts, or leave out pretraining.dev."
    )
    HEAD_OTHER_ACTIVATION = (
        "The config of the checkpoint has classifier_activation {value!r}, which is "
        'that of its MLM head. Pretraining supports "gelu" only. Choose another '
        "checkpoint."
    )
    HEAD_NOT_TIED = (
        "The MLM head of the checkpoint {folder} has separate weights instead of those "
        "of the embedding table (tie_word_embeddings is false), which pretraining does "
        "not support. Choose another checkpoint."
    )
    NO_MASK_TOKEN = (
        "The tokenizer of {folder} has no mask token: neither the mask_token of "
        "tokenizer_config.json, nor [MASK], nor <mask>. Pretraining needs one."
    )
    PRETRAINING_NO_SETTING = (
        "[{where}] of the config has no setting {key}. Add it to the file, or on the "
        "command line: --{where}.{key} ..."
    )
    PRETRAINING_UNKNOWN_SETTING = (
        "[{where}] of the config has an unknown setting, {key}. The settings there "
        "are: {known}."
    )
    PRETRAINING_BAD_SETTING = (
        "{key} of the pretraining config is {value!r}. It should be {wanted}."
    )
    PRETRAINING_TOO_LONG = (
        "A phase of the pretraining config has sequences of {value} wordpieces, but "
        "the encoder takes {limit} at most. Set its length to {limit} or less."
    )
    PRETRAINING_NO_STATE = (
        "{path} is not the state of a pretraining run, or was written by another "
        "version: it has no {key}. Give another output folder."
    )
    PRETRAINING_OTHER_STATE = (
        "{path} holds the state of a run with another encoder or optimizer: {why}. "
        "Give another output folder, or delete that one to start from scratch."
    )
    PRETRAINING_NO_OPTION = (
        "There is no option {name}. Settings are overridden by their names in the "
        "config file, such as --pretraining.learn_rate 0.0005."
    )
    PRETRAINING_EXPORT_EXISTS = (
        "There is a checkpoint in '{folder}' already, and the log of this run does not "
        "say that it was exported. Export to another folder, or remove that one."
    )
    PRETRAINING_STATE_GONE = (
        "There is an encoder in '{folder}' already, but no {state} to resume the run "
        "from which it comes, so that a new run would replace it. Give another output "
        "folder, or move what is in this one."
    )
    PRETRAINING_EXPORT_ONTO_RUN = (
        "--export cannot be the output folder of the run, {folder}, which holds its "
        "state and its log. Give another folder."
    )
    PRETRAINING_EXPORT_ONTO_ENCODER = (
        "--export cannot be the folder {folder}, where the run keeps its checkpoint in "
        "float32. Give another folder."
    )
    PRETRAINING_EXPORT_ONTO_START = (
        "--export cannot be the checkpoint {folder}, which the run starts from: "
        "without it, the run could not be resumed. Give another folder."
    )
    PRETRAINING_ONTO_START = (
        "The run would write its checkpoint over {folder}, which it starts from: if it "
        "were stopped, it could not be resumed. Give another output folder, or set "
        "encoder to a copy."
    )
    PRETRAINING_OUT_OF_MEMORY = (
        "The device {device} has too little memory left for a pass of {total} "
        "wordpieces in {n_seqs} sequences. If there are several sequences, set "
        "max_batch_wordpieces lower (it is {max_batch_wordpieces}). If there is only "
        "one, {advice}make sequences shorter (length in [pretraining.phases]). {saved}"
    )
    PRETRAINING_EVALUATION_OUT_OF_MEMORY = (
        "The device {device} has too little memory left to evaluate held-out texts in "
        "sequences of {length} wordpieces. Free memory on it, set another backend, or "
        "make sequences shorter (length in [pretraining.phases]). {saved}"
    )
    PRETRAINING_WEIGHTS_OUT_OF_MEMORY = (
        "The device {device} has too little memory left for the {n_weights:,} weights "
        "of the encoder in float32, their gradients and the state of the optimizer. "
        "Free memory on it, set another backend, or start from a smaller "
        "encoder. {saved}"
    )
    PRETRAINING_NOT_FINITE = (
        "The loss or the gradient norm is not finite at step {step} (loss {loss}, norm "
        "{norm}). {saved} Set learn_rate lower (it is {learn_rate}), or precision to "
        "float32."
    )
    PRETRAINING_SAVED = "What was saved after step {step} is untouched."
    PRETRAINING_SAVED_BEFORE = "What was saved is untouched."
    PRETRAINING_NOTHING_SAVED = "No step has been saved yet."
    PRETRAINING_STATE_CHANGED = (
        "Another process continued the run in {path} while this one was starting. "
        "Rerun the command to continue from what it saved."
    )
    PRETRAINING_IS_DONE = (
        "The run in {path} took all of its {step} steps with other settings: "
        "{changes}. Nothing would be trained with the new ones. For another run, "
        "choose another output folder, or remove this one."
    )
    PRETRAINING_ONTO_OTHERS = (
        "{path} exists and was not written by `modernbert pretrain`, which would "
        "replace it. Choose another output folder."
    )
    PRETRAINING_CONFIG_IN_OUTPUT = (
        "{path} is where the run saves a copy of its settings, and would be "
        "overwritten. Keep your config file outside the output folder."
    )
    PRETRAINING_NEEDS_TORCH_BACKEND = (
        "Pretraining runs on cuda, mps or cpu, but the backend is {value!r}. Set "
        "backend to one of them, or to auto."
    )

    # evaluation/
    BAD_SAMPLES = (
        "The number of samples must be at least 1, but it is {value!r}. The default is "
        "10000."
    )

    # cli/, and the files that commands read and write
    NO_CONFIG = (
        "There is no config file {path}. docs/pretraining.md shows one, and "
        "configs/pretraining/ of the project has more."
    )
    NO_PIPELINE_OR_CHECKPOINT = (
        "There is no pipeline and no checkpoint {value!r}: neither a folder with a "
        "config.cfg or a config.json, nor an installed package. Give the folder that "
        "nlp.to_disk() or `spacy train` wrote, such as training/model-best, or that of "
        "an encoder."
    )
    NO_PIPELINE = (
        "There is no pipeline {value!r}: neither a folder with a config.cfg nor an "
        "installed package. Give the folder that nlp.to_disk() or `spacy train` wrote, "
        "such as training/model-best."
    )
    PIPELINE_NOT_IMPORTED = (
        "The package of the pipeline {name!r} cannot be imported: {error}. Reinstall "
        "it and what it requires, or give the folder in it that holds config.cfg."
    )
    BAD_CONFIG = "The config {path} cannot be read: {error}"
    BAD_PIPELINE_CONFIG = (
        "The config of the pipeline, {path}, cannot be read: {error}. Restore the "
        "file, or save the pipeline again with nlp.to_disk()."
    )
    BAD_PIPELINE_MODEL = (
        "The model of the component, {path}, cannot be read: {error}. Restore the "
        "file, or save the pipeline again with nlp.to_disk()."
    )
    NO_REVISIONS = (
        "A revision (here {revision!r}) only applies to Hugging Face hub ids, but "
        "{source!r} is a local path or package. Leave it out, or give a hub id."
    )
    NO_COMPONENTS = (
        "--component (here {value!r}) only applies to pipelines, but {source!r} is a "
        "checkpoint. Leave it out, or give a pipeline."
    )
    PIPELINE_WITHOUT_ENCODER = (
        "None of the components of the pipeline '{pipeline}' has an encoder of this "
        "package. Give a pipeline with 'modernbert_ner', or with a 'transformer' whose "
        "model is 'spacy-modernbert.ModernBertModel.v1'; or the folder or hub id of a "
        "checkpoint."
    )
    NO_TEXT_FILE = (
        "There is no file '{path}' to read texts from. Give a text file with a text a "
        "line, a .jsonl file, or - for standard input."
    )
    EMBED_TEXT_IN_VECTOR = (
        "The input has its texts under the key {key!r}, which {path} needs for the "
        "vectors. Rename the key in the input, or write to .npy or .parquet."
    )
    EMBED_EMPTY = "There are no texts in {place}: nothing was written."
    LINE_NOT_UTF8 = (
        "Line {number} of {place} is not UTF-8 ({error}). Convert the input, for "
        "example with `iconv -t utf-8`."
    )
    NO_TEXT_LINES = (
        "{place} is a .spacy file, not one with a text in each line. Write the texts "
        'of its Docs to a .jsonl file first, as {{"text": …}} in each line.'
    )
    LINES_COMPRESSED = (
        "The texts of {place} are compressed. Decompress them first, such as with "
        "gunzip; or, for `modernbert embed`, on the way: zcat texts.jsonl.gz | python "
        "-m spacy modernbert embed - vectors.npy --text-key text."
    )
    LINES_ARE_JSON = (
        "The first line of {place} is a JSON object (its keys: {keys}), but lines are "
        "read as texts. Say which key has the text, with --text-key; if the objects "
        'themselves are the texts, write each as {{"text": …}} to a .jsonl file.'
    )
    LINE_NOT_JSON = (
        "Line {number} of {place} is not a JSON object ({error}). Correct the line; if "
        "the input is plain text, name it .txt, and leave out --text-key."
    )
    LINE_WITHOUT_KEY = (
        "Line {number} of {place} has no key {key!r} (its keys: {keys}). Correct the "
        "line, or rename the key to 'text'; `modernbert embed` also has --text-key."
    )
    LINE_WITHOUT_TEXT = (
        "Line {number} of {place} has {value} under {key!r}, but it must be a string "
        "without lone surrogates. Correct the line."
    )
    EMBED_BAD_OUTPUT = (
        "The name '{path}' does not say which format to write. Give one that ends in "
        "one of: {known}."
    )
    EMBED_OUTPUT_EXISTS = (
        "'{path}' exists already. Remove it, choose another name, or give --force to "
        "replace it once the new file is complete."
    )
    EMBED_OUTPUT_IS_FOLDER = (
        "'{path}' is a folder. Remove it, or choose another name for the file: --force "
        "replaces files only."
    )
    EMBED_NO_PYARROW = (
        "Writing Parquet requires pyarrow, which is not installed. Install it: "
        'pip install "spacy-modernbert[parquet]". Or write .npy or .jsonl.'
    )
    EMBED_OTHER_ARGUMENTS = (
        "{folder} holds part of {output}, but it was made with other arguments: "
        "{differing}. Give the same arguments to continue, or --force to start from "
        "scratch."
    )
    EMBED_OTHER_TEXTS = (
        "{folder} has vectors of {n_texts} texts, but the input does not begin with "
        "these texts (found: {found}). Give the same input to continue, or remove the "
        "folder to start from scratch."
    )
    EMBED_FOLDER_OF_OTHERS = (
        "{folder}, where finished vectors would be kept, {what}. Whoever made it could "
        "choose what is overwritten. Remove it, or give the output another name or a "
        "folder of your own."
    )
    EMBED_DAMAGED = (
        "{path} is damaged: it has {found:,} bytes, but should have at least "
        "{wanted:,}. It may have been copied while it was being written. Remove "
        "{folder} to start from scratch."
    )
    EMBED_BAD_STATE = (
        "{path} is damaged: {error}. Remove {folder} to start from scratch."
    )
    EMBED_NOT_FINITE = (
        "The vector of text {number} has numbers that are not finite. In float16, "
        "large numbers overflow: give --precision float32 or bfloat16, with "
        "--force to start from scratch. In any other precision, the weights of the "
        "model are not finite. The vectors before it are in {folder}."
    )
    OUTPUT_LOCKED = (
        "Another process is writing {output}. Wait for it, or choose another name."
    )
    OUTPUT_ONTO_INPUT = (
        "{path} is used for more than one input or output. Give each a file of its own."
    )
    OUTPUT_IN_PIPELINE = (
        "{path} exists, and is in the folder of a pipeline that is read: {folder}. "
        "Give another name or another folder, or remove the file if it is no part of "
        "the pipeline."
    )
    NO_EVALUATION_FILE = (
        "There is no file {path}. Check the path. spaCy's DocBin.to_disk writes .spacy "
        "files (see docs/training.md), and training leaves log.jsonl in its output "
        "folder."
    )
    BAD_DOCBIN = (
        "{path} cannot be read as a .spacy file: {error}. spaCy's DocBin.to_disk "
        "writes such files (see docs/training.md), and `spacy convert` makes them of "
        "other formats."
    )
    NO_DOC_FILES = (
        "There are no .spacy files in the folder {path}, and other files are not read "
        "from a folder. Give another folder, or a file."
    )
    NO_CURVE = (
        "{path} has no evaluations of a training run. Give the log.jsonl that the "
        "logger of the run has written, or leave out --log."
    )
    NO_ANNOTATED_DOCS = (
        "No document of {path} has entity annotations, so there is nothing to compare "
        "with. Set doc.ents (or doc.set_ents) in each Doc of the file."
    )
    BAD_CONVERT_BITS = (
        "A checkpoint cannot be converted to {value} bits. Use --bits 8 or 4, or 32 "
        "to convert it back to float32."
    )
    BAD_CONVERT_GROUP_SIZE = (
        "Weights cannot be quantized in groups of {value}. Use --group-size 32, 64 or "
        "128."
    )
    CONVERT_ONTO_ITSELF = (
        "The checkpoint '{folder}' cannot be converted onto itself. Give another "
        "folder for the output."
    )
    CHECKPOINT_EXISTS = (
        "There is a checkpoint in '{folder}' already. Give another folder for the "
        "output, or --force to replace it."
    )
    SIZE_ONTO_FOLDER = (
        "'{name}' is a folder here, and would be copied onto itself. For a fresh "
        "encoder of that size, remove or move the folder, or run the command in "
        "another one."
    )
    NO_TOKENIZER_CORPUS = (
        "A fresh encoder learns its tokenizer from a corpus, but there is no such file "
        "(--corpus is {path}). Give a .spacy, .jsonl or .txt file, or a folder of "
        ".spacy files, with --corpus."
    )
    UNKNOWN_SIZE = (
        "There is no size '{name}' in {folder} (its sizes: {sizes}), and no folder of "
        "that name. Give one of the sizes, or --configs with a folder of other sizes; "
        "or the folder of a checkpoint; or a hub id with its owner, such as "
        "'answerdotai/ModernBERT-base'."
    )
    ONNX_PROVIDER = (
        "ONNX Runtime was built with {provider}, which does not start here, usually "
        "because libraries that it loads are missing (CUDA and cuDNN, in the versions "
        "that this onnxruntime-gpu requires). Install them; or install the package "
        "onnxruntime instead, which runs on the CPU; or set another backend."
    )
    ONNX_EXISTS = (
        "There is an export in '{folder}' already. Give --force to replace it, or "
        "another folder."
    )
    ONNX_BITS = (
        "--bits is {value}, but ONNX Runtime quantizes to 8 bits only. Give --bits 8, "
        "or leave it out for float32."
    )
    PIPELINE_ENCODERS = (
        "The pipeline '{folder}' has no single encoder to export (--component is "
        "{value}). Choose one of the components that have an encoder with --component: "
        "{found}."
    )
    EXPORT_DIFFERS = (
        "The exported model differs from torch by {error:.1e}, so nothing was written. "
        "Try another version of onnxruntime, and please report it to spacy-modernbert "
        "with the output of `python -m spacy modernbert info`."
    )


class Missing:
    """Why a backend cannot run, and what to do about it."""

    TORCH = 'torch is not installed. Install it: pip install "torch>=2.9,<2.14".'
    CUDA = (
        "torch {torch} finds no CUDA device. If there is one, install a build of torch "
        "for CUDA (https://pytorch.org/get-started) and check the driver with "
        "`nvidia-smi`."
    )
    MPS = (
        "torch {torch} finds no Apple GPU. The backend 'mps' needs a Mac with Apple "
        "silicon, a macOS that this torch supports (14 or later), and a build of torch "
        "for it."
    )
    MLX = 'MLX is not installed. Install it: pip install "spacy-modernbert[mlx]".'
    MLX_ELSEWHERE = (
        "This package uses MLX on Apple silicon and on Linux only, not on {system} "
        "with {machine}."
    )
    MLX_BACK_END = (
        "MLX is installed, but none of its backends is ({error}). Install one: pip "
        'install "spacy-modernbert[mlx]" (on Linux with an NVIDIA card: '
        '"spacy-modernbert[mlx-cuda13]").'
    )
    OPENVINO = (
        "OpenVINO is not installed. Install it: "
        'pip install "spacy-modernbert[openvino]".'
    )
    ONNX = (
        "ONNX Runtime is not installed, or the package onnx is not. Install both: "
        'pip install "spacy-modernbert[onnx]".'
    )
    BROKEN = (
        "{module} cannot be imported ({error}). If there is a folder named {library} "
        "where Python was started, Python takes it for the library: rename it. "
        "Otherwise reinstall the library: pip install --force-reinstall --no-deps "
        "{library}."
    )
    NUMBA = 'Numba is not installed. Install it: pip install "spacy-modernbert[fast]".'


class Warnings:
    """Messages of warnings, to be completed with `str.format`."""

    # documents/, span_getters
    OVERSIZED_TOKENS = (
        "Some tokens of a Doc ({count}) are longer than a window, which holds "
        "{capacity} wordpieces. The first is token {token}, with {n_pieces}. The "
        "vector of such a token is made from as many of its first wordpieces as fit. "
        "Other tokens are not affected. A larger window would hold more of it."
    )
    OVERSIZED_TOKENS_UNBOUND = (
        "Some tokens of a Doc ({count}) may be longer than a window, which is sure to "
        "hold {capacity} wordpieces. The first is token {token}, with up to "
        "{n_pieces}. Such a token has a span of its own, which the model may "
        "truncate. Other tokens are not affected."
    )

    # components
    NUMBA_BROKEN = (
        "Numba is installed, but cannot be imported ({error}). spaCy's own code "
        "decodes and trains instead, which is many times slower. Install a Numba that "
        'fits: pip install --force-reinstall "spacy-modernbert[fast]".'
    )

    # layers/
    TRAINED_ENCODER_KEPT = (
        "The encoder was loaded with its pipeline and has been trained since. "
        "nlp.initialize() keeps it as it is now, while everything else starts from "
        "scratch. To start with the encoder that was saved, load the pipeline again."
    )
    KEPT_VECTORS_FULL = (
        "There is no room to keep the vectors of more documents (kept: {n_docs}). The "
        "others are encoded again each time, which takes longer but gives the same "
        "results. If there is memory for more, raise max_mb (it is {max_mb:g}): a "
        "token takes {n_bytes} bytes."
    )
    SMALLER_PASSES = (
        "The encoder's device has too little memory for a pass of {total} wordpieces. "
        "The pass is repeated in halves, and for now passes hold at most {budget} "
        "wordpieces, or fewer if that is still too much. Results are the same. Set "
        "max_batch_wordpieces to a size that fits, to avoid failed attempts."
    )
