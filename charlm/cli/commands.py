"""The commands by the panels of the help page: name, module and function, summary.

The summaries are not docstrings of the functions, so that the help page imports none of their files.
"""

from __future__ import annotations

PANELS = {
    "Make a model": {
        "demo": ("demo.demo", "Train on a bundled play for a minute, then write some of it anew."),
        "learn": ("learn.learn", "A course in ten lessons: read one and run what it says. [dim]charlm learn 1[/]"),
        "train": ("train.command", "Train a model on a text. [dim]charlm train corpus.txt --arch lstm --minutes 5[/]"),
        "plan": (
            "plan.command",
            "Say what a training will need: memory, time, energy, money. [dim]charlm plan corpus.txt --price 2.5[/]",
        ),
        "watch": (
            "watch.watch",
            "Look on at a training, from this terminal or another one: curve, speed, time left, latest sample.",
        ),
    },
    "Write": {
        "sample": ("sample.sample", 'Write new text. [dim]charlm sample --temperature 0.8 --prompt "Once"[/]'),
        "translate": (
            "translate.translate",
            'Translate lines of text with a run that was trained on pairs. [dim]echo "Guten Tag" | charlm translate[/]',
        ),
        "restore": (
            "restore.restore",
            'Write the clean text of a damaged one. [dim]echo "To be, or \\[MASK] to be" | charlm restore[/]',
        ),
        "fill": (
            "fill.fill",
            'Fill gaps in a text. [dim]charlm fill "To be, or \\[MASK]\\[MASK]\\[MASK] to be"[/]',
        ),
    },
    "Use": {
        "play": (
            "play.play",
            "Try runs on a page in the browser: write, look inside, watch a training. [dim]charlm play last[/]",
        ),
        "serve": (
            "serve.serve",
            "Let other programs write with runs, over HTTP, as with OpenAI's models. [dim]charlm serve last[/]",
        ),
        "classify": (
            "classify.classify",
            'Say to which class each line belongs. [dim]echo "It may rain" | charlm classify[/]',
        ),
    },
    "Compare": {
        "compare": (
            "compare.command",
            "Train several architectures alike and compare them, or compare runs. [dim]charlm compare corpus.txt[/]"
            "\n\nInterrupted, the same command goes on where it was.",
        ),
        "eval": (
            "evaluate.evaluate",
            "Score a text exactly, each byte once, or pairs, with their translations. [dim]charlm eval --split test[/]",
        ),
    },
    "Look inside": {
        "score": (
            "score.score",
            "Colour a text by how much each character surprises a model. [dim]charlm score text.txt[/]",
        ),
        "explain": (
            "explain.explain",
            'Show what may come next, before and after each filter. [dim]charlm explain --prompt "ROMEO" --top-k 5[/]',
        ),
        "choose": (
            "choose.choose",
            'Ask which answer is likeliest. [dim]charlm choose --prompt "Peg is" --choice " wet" --choice " dry"[/]',
        ),
        "attend": (
            "attend.attend",
            'Show where a model looks: attention weights. [dim]charlm attend --text "To be, or not to be"[/]',
        ),
        "lens": (
            "lens.lens",
            'Show what a model would guess after each of its layers. [dim]charlm lens --text "To be, or not to be"[/]',
        ),
        "neurons": (
            "neurons.neurons",
            "Show what single units of a recurrent model do. [dim]charlm neurons --find quote --text - < story.txt[/]",
        ),
        "ablate": (
            "ablate.ablate",
            "Show what each head, layer or unit is worth: the score without it. [dim]charlm ablate best[/]",
        ),
        "experts": (
            "experts.experts",
            "Show how a model shares its tokens among its experts, and what each reads. [dim]charlm experts[/]",
        ),
        "context": ("context.context", "Show how far back a model really looks. [dim]charlm context best[/]"),
        "neighbours": ("words.neighbours", "Show the words nearest to a word. [dim]charlm neighbours king[/]"),
        "analogy": ("words.analogy", "Add and subtract words. [dim]charlm analogy king - man + woman[/]"),
        "similar": (
            "similar.similar",
            'Show where the training text is nearest to a text. [dim]charlm similar --text "To be, or"[/]',
        ),
        "novelty": (
            "novelty.novelty",
            "How much of what a run writes is copied from its training text. [dim]charlm novelty[/]",
        ),
        "compress": (
            "compress.compress",
            "Make a file as small as the model finds it likely. [dim]charlm compress book.txt[/]",
        ),
        "decompress": (
            "compress.decompress",
            "Bring a compressed file back, byte for byte. [dim]charlm decompress book.txt.charlm[/]",
        ),
    },
    "Manage": {
        "runs": ("runs.runs", "List the runs in runs/, the newest last."),
        "info": ("runs.info", "Show one run: settings, text, and how far it came."),
        "delete": ("manage.delete", "Delete runs, and nothing else. [dim]charlm delete RUN[/]"),
        "rename": ("manage.rename", "Give a run another name. [dim]charlm rename RUN NEW[/]"),
        "archs": ("lists.archs", "List the architectures."),
        "presets": (
            "lists.presets",
            "List the presets: named settings for charlm train --preset. With a name, show its settings.",
        ),
        "import": (
            "pretrained.import_model",
            "Make a run of a GPT-2 as Hugging Face's library keeps it. [dim]charlm import FOLDER[/]",
        ),
        "export": (
            "pretrained.export",
            "Write a run for Hugging Face's library, ONNX, TensorBoard or as CSV. [dim]charlm export RUN FOLDER[/]",
        ),
        "features": (
            "features.features",
            "Write what a layer makes of each line, as vectors. [dim]charlm features text.txt --out text.npy[/]",
        ),
        "prune": (
            "prune.prune",
            "Make a run of which small weights are zero, and say what that costs. "
            "[dim]charlm prune RUN --share 0.5 --out NEW[/]",
        ),
        "corpus": ("corpus.app", "Find, download and inspect texts."),
    },
}
