"""Notes: what was guessed, left out or converted, as a code with values; the sentence is made where it is read."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import TypeAlias

from ssl_risk_rs._names import in_agreement

__all__ = ["Note", "Value", "Values", "each_once"]

#: what a note may hold
Value: TypeAlias = str | int | float
Values: TypeAlias = dict[str, Value]

#: code → sentence; its fields are the values of the note
_TEMPLATES = {
    "cut_made": (
        "{file} does not tell train from test: {n_test:,} of {n:,} rows ({share:.0%} of each class, seed {seed}) "
        "are set aside as test rows."
    ),
    "cut_made_by_group": (
        "{file} does not tell train from test: {n_test:,} of {n:,} rows, in whole groups of {group!r} (about "
        "{share:.0%}, seed {seed}), are set aside as test rows."
    ),
    "columns_not_features": (
        "{file}: the {n_features:,} features are {features}. Columns of numbers that are no features are kept beside "
        "the rows ({count:,}): {columns}."
    ),
    "columns_left_out": "{file} has columns that are not used ({count:,}): {columns}.",
    "arrays_left_out": "{file} has arrays that are not used ({count:,}): {arrays}.",
    "embed_joined": "{joined:,} identifiers are in both {file} and {labels}; left out are {unlabelled:,} without a "
    "label, {lacking:,} with a label and no vector, and {empty:,} without a single vector.",
    "unlabelled_dropped": "{where}: {count:,} of {n:,} rows have no label and are left out.",
    "train_only_classes": "{where}: {count:,} of {n_classes:,} classes have no test row ({examples}).",
    "classes_without_rows": "{where}: {count:,} of {n_classes:,} class names have no row ({examples}).",
    "class_names_nearly_equal": (
        "{where}: {count:,} pairs of classes have names that differ only in blanks, in case or in the way a letter "
        "is encoded ({examples}); they are counted as different classes."
    ),
    "minus_one_is_a_class": "{where}: the labels are -1 and 1; both are taken for classes, none for a missing label.",
    "text": "{text}",
    # how rows were drawn
    "few_folds_judged": "The penalty was tuned on {judged} of {folds} folds. In simulations of a few thousand rows, "
    "intervals of probe generalization were then 7 to 12 % too short.",
    "small_subsets": "There are {subsets} held-out subsets instead of {wanted}, each of which would have fewer rows "
    "than there are classes.",
    "fewer_subsets": "There are {subsets} held-out subsets instead of {wanted}: each needs a group of every class.",
    "shares_moved": "Holding out subset {subset} lowers the share of class {class_name} in the rest by {percent:.1f} "
    "%: the error on held-out rows is too high by about as much as that class then lacks labels.",
    "folds_lack_classes": "{classes:,} classes have too few groups to be in every set of training folds: "
    "there the penalty is tuned on the others.",
    "uncovered_classes": "{classes:,} of {total:,} classes are too small to be in a held-out subset: "
    "the error on held-out training rows (R_AS) is that of the others.",
    "uncovered_on_test": "{percent:.1f} % of the test rows are of classes that no held-out row is of, and {error:.1f} "
    "% of these are wrong: {points:+.2f} points of encoder generalization come from them, which may be probe "
    "generalization.",
    "drawn_counts": "The classes' test rows are neither equally many nor in proportion to their training rows, as if "
    "rows were drawn at random; intervals take the numbers as they are. Over samples in which they vary that of the "
    "aggregated risk is about {percent:.0f} % wider (--random-counts, in Python random_counts=True).",
    "collapsed_strata": "{classes:,} classes have a single {unit} in the {rows} rows: "
    "variance is taken from pairs of classes of like training error.",
    "one_class_predicted": "The probe predicts class {class_name} for every test row: no other class has the highest "
    "score of any, whatever their order says (--tune-on balanced weighs classes alike).",
    "other_class_shares": "Test rows have other class shares than training rows: {points:+.2f} points of encoder "
    "generalization are that. Its interval takes the shares as they are.",
    "unseen_rows": "This feature was chosen on folds of the training rows. Here every risk is judged on rows outside "
    "these folds: the test rows, and {rows:,} held-out rows of the {train:,} training rows.",
    # groups
    "groups_unused": "The column {column} looks like groups of rows that are not independent. "
    "Add --group {column} if whole groups should stay on one side of every split.",
    "shared_groups": "{count} groups are on both sides of train and test (for example {example}): "
    "the test error is too low for new groups.",
    "shared_ids": "{count:,} identifiers are of a training row and of a test row (for example {example}). If they name "
    "the same object, the test error is too low for new ones: keep its rows on one side (--group takes a column).",
    "few_groups": "The {rows} rows have {groups} groups only: intervals that rest on them are marked or left out.",
    "one_group_decides": "One group makes {percent:.0f} % of the variance of the {rows} rows: "
    "the interval rests on it more than on any other.",
    "one_group_decides_difference": "One group makes {percent:.0f} % of what test rows add to the variance of the "
    "difference of {encoder}'s total: its interval rests on that group more than on any other.",
    # features
    "rows_without_direction": "{count:,} classified rows have no neighbour, since they, or all training rows, are zero "
    "in every feature: they count as wrong.",
    "augmented_view": "Features are of augmented view {view} of every image, not of the images as they are.",
    "features_all_constant": "All {total:,} features are constant on the training rows: every probe guesses, and the "
    "parts say nothing of the representation. Look at how the features were made.",
    "constant_features": "{count:,} of {total:,} features are constant on the training rows and carry nothing.",
    "constant_twin_features": "{count:,} of {total:,} features of the twin are constant on the training rows.",
    # penalties
    "tuned_on_balanced": "The penalty was tuned on the class-balanced error of held-out rows, not on the 0-1 error.",
    "penalties_by_shares": "A penalty of {alpha:g} errs least on held-out rows, and {chosen:g} was taken: at the other "
    "the share of each class among the rows of a fit decides, and folds have other shares than the fits that are "
    "judged.",
    "penalty_at_edge": "{penalty} ({alpha:g}) is at the end of its grid ({low:g} to {high:g}).",
    "crowded": "There are more classes ({classes:,}) than features. Intervals of a ridge probe's training errors are "
    "then too short (80 to 85 % instead of 95 % in simulation), and marked.",
    "separable": "A probe separates the training rows at the penalty's floor: with this many features "
    "usability is not identified, and neither is where it ends and probe generalization begins.",
    "one_row_of_targets": "One row ({example}) makes {percent:.0f} % of the variance of the numbers to predict over "
    "the {rows} rows: look at it before any of these numbers is believed.",
    "above_guessing": "The error on test rows, {total:.2f} %, is above that of always predicting the mean of the "
    "training rows, {chance:.2f} %.",
    "interpolated": "A probe predicts its own training rows next to exactly at the penalty's floor: with this many "
    "features usability is not identified, and neither is where it ends and probe generalization begins.",
    "optimistic_af": "The floor probe errs {ratio:.1f} times as often on test rows as on the training rows that R_AF "
    "is judged on: R_AF, and with it usability, is optimistic, unless test rows are harder.",
    "optimistic_af_held_out": "On held-out training rows, probes at the penalty's floor err {ratio:.1f} times as often "
    "as R_AF says, which is judged on rows of its probe's own fit: R_AF, and with it usability, is optimistic.",
    "repeated_rows": "{count:,} of {total:,} test rows are equal to a training row in every feature: if they are the "
    "same images, the test error is too low (--overlap refuse stops there).",
    "equal_features": "{count:,} of {total:,} test rows are equal to a training row in every feature, though no images "
    "have equal bytes: if they are the same images, saved anew, the test error is too low. Features of few values are "
    "equal without that.",
    "not_decomposed": "Nothing is decomposed: {reason}",
    "repeated_training_rows": "{count:,} of {total:,} training rows are equal to another one in every feature. If they "
    "are copies, and features do not merely have few values, held-out rows have copies among the rows of their probe: "
    "their error is then too low, and probe generalization hides in encoder generalization. Drop the copies, or keep "
    "them together (--group).",
    "repeated_among_neighbours": "{count:,} of {total:,} test rows are equal to a training row in every feature: if "
    "they are the same images, they find themselves, and the error is too low.",
    "repeated_neighbours": "{count:,} of {total:,} training rows are equal to another one in every feature. If they "
    "are copies, held-out rows find their own: their error is then too low, and the gap too large.",
    "nothing_held_out": "No training row is held out, since too few would be left, or groups are too large: there is "
    "no gap (--held-rows asks for a number).",
    "repeated_training_images": "{count:,} training images have the bytes of another one. Held-out rows have copies "
    "among the rows of their probe then: their error is too low, and probe generalization hides in encoder "
    "generalization. Drop the copies (ssl-risk-rs data check lists them), or keep them together (--group).",
    "not_compared": "Rows in parts are not compared with each other: whether test rows are training rows too is not "
    "known.",
    "floor_sensitivity": "Usability rests on the floor of the penalty: R_AF is {at_floor:.2f} % at {floor:g} and "
    "{above:.2f} % one decade above.",
    "midpoint": "The mean of R_AF and of the error on held-out rows at the same floor is {midpoint:.2f} %: "
    "it moves less with features that carry nothing.",
    "no_probe_variation": "Intervals do not hold the probe's own variation: "
    "one fold was judged and one subset held out.",
    "penalties_differ": "Held-out rows hardly tell {count} penalties apart, whose probes err {low:.1f} to {high:.1f} % "
    "on test rows: that another sample would choose another makes most of the width of the aggregated risk's interval. "
    "Test rows may be unlike training rows.",
    "choice_unknown": "Records of earlier builds do not say which penalties other samples would choose ({encoders}): "
    "differences from them take the penalties as they were chosen.",
    # targets
    "target_classes": "The column {column} stands in for the labels: it is predicted as {classes} classes.",
    "target_numbers": "Numbers are predicted ({count} a row). Errors are 1 - R²: squared errors in percent of the "
    "variance over the training rows, so that 100 % is predicting their mean.",
    "target_labels": "Labels are predicted ({count}, of which a row may have any). Errors are 1 - AUROC, averaged over "
    "labels, so that 50 % is guessing.",
    "labels_left_out": "{count:,} of {total:,} labels are left out ({examples}): too few test rows, or held-out rows, "
    "have or lack them.",
    # metrics
    "metric_left_out": "The {label} is left out: with {classes} classes it is 0 for every probe; it needs {least} or "
    "more.",
    "metric_needs_probabilities": "Of the ridge probe, these metrics are left out: {metrics}. They need probabilities, "
    "and its scores are none.",
    "calibrated_by_chance": "A perfectly calibrated probe would show a calibration error of {percent:.2f} % on "
    "{rows:,} test rows by chance.",
    "balanced_without_classes": "{classes:,} of {total:,} classes have no test row: the class-balanced error on test "
    "rows is that of the others.",
    "variation_without_classes": "{classes:,} classes have training rows in one fold only, and the probe fitted "
    "without it does not know them: how much the {label} on their test rows varies with the probe is taken from the "
    "other folds, and may be too small.",
    # few-shot
    "shots_left_out": "Few-shot size {size} is left out: {reason}.",
    "draws_overlap": "{size}: the pool is too small for disjoint draws; {draws} draws overlap, each takes "
    "{percent:.0f} % of it, classes counted alike, and intervals are widened for that.",
    "fewer_draws": "{size}: there are {draws} disjoint draws instead of {asked}.",
    "draws_untuned": "{size}: a draw has one row of each class, on which no penalty can be tuned; it is {alpha:g}.",
    "draws_one_fold": "{size}: the penalty of each draw was tuned on one of its {folds} folds, because all would take "
    "long.",
    "draws_cut_groups": "{size}: a draw has a class in one group only, so that its penalty was tuned on folds of rows, "
    "not of groups, and may be too weak.",
    "draws_at_edge": "{size}: the tuned penalty is the weakest of its grid in {count} of {draws} draws.",
    "draws_uncovered": "{size}: {classes:,} classes have no training row left to judge on; R_AS is that of the others.",
    # components
    "negative": "{label} is negative ({weight}): {meaning}.",
    "no_twin": "There is no supervised twin, so approximation and usability are one row (--supervised names one, "
    "--supervised-features beside features).",
    "twin_at_chance": "At the floor the twin's probe errs on {twin:.1f} % of the test rows, as one without features "
    "does ({chance:.1f} %), and the encoder's on {own:.1f} %: are the twin's rows the same ones, in the same order?",
    "not_pretrained_here": "The encoder was pretrained on {pretraining}, not on these images. "
    "Encoder generalization is then the shift between train and test, and usability absorbs the rest.",
    "no_control": "There is no control encoder: {reason}.",
    "paper_cuts_groups": "The paper's protocol cuts rows and not groups: {cut:,} of the {total:,} groups of training "
    "rows are on both sides of its cut, so that held-out rows are easier than rows of new groups (--protocol strict "
    "keeps groups whole).",
    "paper_protocol": "Under the paper's protocol penalties are tuned on the evaluation rows: errors are optimistic.",
    # the published table
    "published_other_data": "The published numbers are of ImageNet-1K and this run is of {data}: they are shown as "
    "context, and differ as the data do.",
    "published_data_unknown": "The published numbers are of ImageNet-1K; the record of this run does not tell whether "
    "{data} is ImageNet-1K.",
    "published_other_rows": "The published probes had 1,281,167 training rows, 50,000 test rows and 1,000 classes; "
    "this run has {train:,}, {test:,} and {classes:,}.",
    "published_protocol": "The authors tuned a penalty for each risk apart: for R_AF on the rows it is judged on, for "
    "R_US on the test rows. This run tuned one on rows that nothing is judged on, and R_AF has a stated floor "
    "(--protocol paper makes the authors' choices).",
    "published_probe": "The published probe is logistic and this one is ridge, whose components may lie points apart.",
    "published_optimizer": "The authors stopped SGD after 100 epochs, with batch normalization in some fits; fits here "
    "go to their optimum.",
    "published_features": "The published representation has {published:,} features ({layer}) and this one "
    "{measured:,}: it is another representation.",
    "published_twin": "Approximation is measured on {twin} here; the authors chose supervised encoders of their own.",
    "published_no_twin": "Approximation and usability are compared as one row, because {side} has no supervised twin.",
    "published_fault": "The published row of {encoder} is amended in {column} ({published} became {used}): {reason}.",
    "published_doubt": "The published row of {encoder} is to be read with care in {column}: {reason}.",
    "published_no_interval": "Published numbers have no intervals and come from one seed; the draw of 50,000 test rows "
    "alone leaves ±{half:.1f} points on their total.",
    # comparisons
    "compared_without_twin": "Approximation and usability are compared as one, because there is no supervised twin of "
    "{encoders}.",
    "compared_by_number": "Rows have no ids of their own: they are paired by their number and label, so all files "
    "must hold them in the same order.",
    "compared_pretraining": "These encoders were not pretrained on these images, others were: {encoders}. Their "
    "encoder generalization is the shift between train and test, so a difference in it is not one of memorization.",
    "compared_unconverged": "Fits of these encoders missed their tolerance: {encoders}.",
    "compared_separable": "A probe separates the training rows of {encoders}: differences in usability and probe "
    "generalization are then not identified apart, their sum is.",
    # data
    "overlap": "{count:,} test images have the bytes of a training image: the test error is too low.",
}


@dataclass(frozen=True, slots=True)
class Note:
    """Something a reader of the result should know.

    >>> Note("unlabelled_dropped", {"where": "f.npz: y_train", "count": 3, "n": 90}).sentence()
    'f.npz: y_train: 3 of 90 rows have no label and are left out.'
    """

    code: str
    values: Mapping[str, str | int | float] = field(default_factory=dict)

    def sentence(self) -> str:
        """What the note says."""
        # what is counted agrees with its number before texts, which are the user's, are filled in
        formatter, parts, texts = Formatter(), list[str](), list[str]()
        for literal, name, spec, conversion in formatter.parse(_TEMPLATES[self.code]):
            parts.append(literal)
            if name is None:
                continue
            value = self.values[name]
            shown = format(formatter.convert_field(value, conversion), spec or "")
            if isinstance(value, str):
                parts.append(f"\0{len(texts)}\0")
                texts.append(shown)
            else:
                parts.append(shown)
        return re.sub("\0([0-9]+)\0", lambda found: texts[int(found[1])], in_agreement("".join(parts)))


def each_once(notes: Iterable[Note]) -> list[Note]:
    """Notes in their order, without those whose sentence was said."""
    return list({note.sentence(): note for note in notes}.values())
