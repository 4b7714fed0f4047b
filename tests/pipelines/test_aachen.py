"""The Aachen pipeline, on the rendered room written in the layout of Aachen Day-Night v1.0 and v1.1."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pycolmap
import pytest

from hloc_ext.confs import DEFAULT_RETRIEVAL, extractors
from hloc_ext.errors import MissingInputError
from hloc_ext.evaluation.poses import evaluate
from hloc_ext.formats.colmap import read_model, registered_poses, write_model
from hloc_ext.formats.results import Status, read_log, read_poses
from hloc_ext.formats.submission import validate_submission
from hloc_ext.localizer import Localizer
from pipelines import aachen
from pipelines.aachen import find_layout
from tests.aachen_dataset import QUERY_FOLDERS, pavilion_scene, synthetic_scene, write_aachen
from tests.pipelines.conftest import Page, errors, times
from tests.pipelines.killing import kill_at_random, stage_names

SIFT = ("--features", "sift")  # quick
METHOD = f"feats-sift_matches-NN-mutual-ratio.8_{extractors[DEFAULT_RETRIEVAL]['output']}"
SUBMISSIONS = {
    version: f"{start}_eval_hloc_ext_{METHOD}.txt"
    for version, start in (("v1.0", "Aachen"), ("v1.1", "Aachen_v1_1"))
}
RESULTS = f"results_{METHOD}.txt"
SFM = "sfm_feats-sift_matches-NN-mutual-ratio.8"


@pytest.fixture(scope="module")
def datasets(room, tmp_path_factory):
    """Both versions of the data set; copy before changing any."""
    root = tmp_path_factory.mktemp("aachen")
    scene = synthetic_scene(room, root / "work")
    return {version: write_aachen(scene, root / version, version) for version in ("v1.0", "v1.1")}


@pytest.fixture(scope="module")
def outputs(datasets, tmp_path_factory):
    """Outputs of a complete run of each version; v1.1 takes its features from v1.0."""
    root = tmp_path_factory.mktemp("aachen_outputs")
    for version, dataset in datasets.items():
        if version == "v1.1":
            seed(root / "v1.0", root / version)
        truth = ["--ground_truth", str(dataset / "ground_truth")]
        arguments = ["--dataset", str(dataset), "--version", version, *truth]
        aachen.main([*arguments, *SIFT, "--outputs", str(root / version)])
    return {version: root / version for version in datasets}


def seed(source, target):
    """Give a run the features and matches of another."""
    target.mkdir(parents=True)
    for file in source.glob("*.h5"):
        shutil.copyfile(file, target / file.name)
    return target


@pytest.fixture
def dataset(datasets, tmp_path):
    """A copy of version v1.0 to change."""
    return shutil.copytree(datasets["v1.0"], tmp_path / "aachen")


def query_names(room):
    names = {"day": room.query_names[:2], "night": room.query_names[2:]}
    return [f"{QUERY_FOLDERS[condition]}/{name}" for condition in names for name in names[condition]]


def assert_localized(results, room):
    for result in results:
        assert result.status is Status.LOCALIZED
        position, rotation = errors(result.cam_from_world, room.pose(result.name.split("/")[-1]))
        assert position < 0.005 and rotation < 0.1


@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
def test_end_to_end(datasets, outputs, room, version):
    folder, dataset = outputs[version], datasets[version]
    results = read_log(folder / f"{RESULTS}_logs.jsonl")
    assert [result.name for result in results] == query_names(room)
    assert_localized(results, room)

    submission = folder / SUBMISSIONS[version]
    lists = [dataset / "queries" / f"{c}_time_queries_with_intrinsics.txt" for c in ("day", "night")]
    assert validate_submission(submission, lists) == []
    poses = read_poses(submission)
    assert list(poses) == room.query_names  # basenames, as the benchmark wants
    for result in results:
        pose = poses[result.name.split("/")[-1]]
        assert np.allclose(pose.matrix(), result.cam_from_world.matrix(), atol=1e-12)
    assert submission.read_bytes() == (folder / RESULTS).read_bytes()

    model = read_model(folder / SFM)
    assert sorted(registered_poses(model)) == [f"db/{name}" for name in room.map_names]
    assert model.num_points3D() > 1000
    ids = {image.name: image_id for image_id, image in model.images.items()}
    if version == "v1.0":  # numbered as in aachen.db
        assert ids == {f"db/{name}": 109 - i for i, name in enumerate(room.map_names)}


@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
def test_report_and_stages(outputs, version):
    page = Page(outputs[version] / "report.html")
    page.assert_self_contained()
    assert f"Aachen {version}" in page.text and "2 day, 2 night" in page.text
    assert f"{SUBMISSIONS[version]} (valid)" in page.text and "4 of 4" in page.text
    stages = json.loads((outputs[version] / "stages.json").read_text())["stages"]
    names = [stage["name"] for stage in stages]
    assert names == [
        *(["reference model from NVM"] if version == "v1.0" else []),
        "global descriptors, map",
        "local features, map",
        "global descriptors, queries",
        "local features, queries",
        "pairs from covisibility",
        "matches, map",
        "triangulation",
        "retrieval",
        "matches, queries",
        "localization",
    ]
    assert {stage["state"] for stage in stages} <= {"completed", "resumed"}


def test_localizer_opens_the_map(outputs, datasets, room):
    localizer = Localizer(outputs["v1.0"])
    result = localizer.localize(datasets["v1.0"] / "images_upright" / query_names(room)[0], room.camera)
    expected = read_log(outputs["v1.0"] / f"{RESULTS}_logs.jsonl")[0]
    assert (result.qvec, result.tvec, result.retrieved) == (expected.qvec, expected.tvec, expected.retrieved)


def test_complete_run_is_not_repeated(datasets, outputs, tmp_path, pipeline):
    folder = shutil.copytree(outputs["v1.0"], tmp_path / "outputs", copy_function=shutil.copy2)
    before = times(folder)
    outcome = pipeline(aachen.main, "--dataset", datasets["v1.0"], *SIFT, "--outputs", folder)
    assert outcome.code == 0 and "(4 poses, valid)" in outcome.out
    assert {stage["state"] for stage in json.loads((folder / "stages.json").read_text())["stages"]} == {
        "resumed"
    }
    changed = {name for name, time in times(folder).items() if time != before.get(name)}
    assert changed == {"stages.json", "map.json", "report.html", SUBMISSIONS["v1.0"]}


def test_ground_truth_is_evaluated_by_condition(datasets, outputs, tmp_path, pipeline):
    folder = shutil.copytree(outputs["v1.1"], tmp_path / "outputs", copy_function=shutil.copy2)
    arguments = ["--dataset", datasets["v1.1"], "--version", "v1.1", *SIFT, "--outputs", folder]
    truth = datasets["v1.1"] / "ground_truth"
    outcome = pipeline(
        aachen.main, *arguments, "--ground_truth", truth, "--thresholds", "0.005,0.1", "1e-6,90"
    )
    table = outcome.out.splitlines()
    header = next(i for i, line in enumerate(table) if line.startswith("queries "))
    assert "recall % at 0.005, 0.1° / 1e-06, 90°" in table[header]
    rows = {line.split("  ")[0]: line for line in table[header + 2 : header + 6]}
    assert list(rows) == ["day", "day, retrieval alone", "night", "night, retrieval alone"]
    for condition in ("day", "night"):
        assert rows[condition].split()[1:3] == ["2", "2"] and " 100.0 / 0.0 " in rows[condition]
        assert " 0.0 / 0.0 " in rows[f"{condition}, retrieval alone"]


def test_without_database_images_are_numbered_as_in_the_nvm_file(dataset, outputs, tmp_path, pipeline, room):
    (dataset / "aachen.db").unlink()
    folder = seed(outputs["v1.0"], tmp_path / "outputs")
    assert pipeline(aachen.main, "--dataset", dataset, *SIFT, "--outputs", folder).code == 0
    ids = {image.name: image_id for image_id, image in read_model(folder / SFM).images.items()}
    assert ids == {f"db/{name}": i for i, name in enumerate(room.map_names, 1)}
    assert_localized(read_log(folder / f"{RESULTS}_logs.jsonl"), room)


def test_limit(datasets, outputs, tmp_path, pipeline, room):
    folder = seed(outputs["v1.0"], tmp_path / "outputs")
    arguments = ["--dataset", datasets["v1.0"], *SIFT, "--outputs", folder]
    assert pipeline(aachen.main, *arguments, "--limit", 1).code == 0
    names = query_names(room)
    results = read_log(folder / f"{RESULTS}_logs.jsonl")
    assert [result.name for result in results] == [names[0], names[2]]
    assert "1 day, 1 night" in Page(folder / "report.html").text
    outcome = pipeline(aachen.main, *arguments, "--covisibility_clustering", "--num_loc", 3)
    assert outcome.code == 0 and "(4 poses, valid)" in outcome.out
    results = read_log(folder / f"{RESULTS}_logs.jsonl")
    assert_localized(results, room)
    assert all(len(r.retrieved) == 3 and r.estimator["covisibility_clustering"] for r in results)


def test_images_folder_of_the_archive(dataset):
    """The archive unpacks to images/images_upright, older copies to images_upright."""
    assert find_layout(dataset, "v1.0").images == dataset / "images_upright"
    (dataset / "images").mkdir()
    (dataset / "images_upright").rename(dataset / "images" / "images_upright")
    assert find_layout(dataset, "v1.0").images == dataset / "images" / "images_upright"


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        (
            "v1.0",
            [
                "images_upright/ (the images)",
                "3D-models/aachen_cvpr2018_db.nvm",
                "3D-models/database_intrinsics.txt",
                "queries/*_time_queries_with_intrinsics.txt",
            ],
        ),
        (
            "v1.1",
            [
                "images_upright/ (the images)",
                "3D-models/aachen_v_1_1/ (cameras, images and points3D, .bin or .txt)",
                "queries/*_time_queries_with_intrinsics.txt",
            ],
        ),
    ],
)
def test_all_that_is_missing_is_listed(tmp_path, pipeline, version, missing):
    arguments = [
        "--dataset",
        tmp_path / "aachen",
        "--version",
        version,
        *SIFT,
        "--outputs",
        tmp_path / "outputs",
    ]
    message = pipeline(aachen.main, *arguments).error
    listed = [line.strip() for line in message.splitlines() if line.startswith("  ")]
    assert listed == [f"{tmp_path}/aachen/{name}" for name in missing]
    assert f"is not Aachen {version}; missing:" in message and "visuallocalization.net/datasets" in message
    assert not (tmp_path / "outputs").exists()


def test_only_what_is_missing_is_listed(dataset):
    (dataset / "3D-models" / "database_intrinsics.txt").unlink()
    with pytest.raises(MissingInputError) as error:
        find_layout(dataset, "v1.0")
    assert str(error.value).splitlines()[1:2] == [f"  {dataset}/3D-models/database_intrinsics.txt"]
    with pytest.raises(MissingInputError, match="aachen_v_1_1"):
        find_layout(dataset, "v1.1")


def test_missing_query_images(dataset, tmp_path, pipeline, room):
    names = query_names(room)
    for name in names[1:3]:
        (dataset / "images_upright" / name).unlink()
    message = pipeline(aachen.main, "--dataset", dataset, *SIFT, "--outputs", tmp_path / "outputs").error
    assert f"2 of 4 query images do not exist, for instance {dataset}/images_upright/{names[1]}" in message
    assert "database_and_query_images.zip" in message and not (tmp_path / "outputs").exists()


def test_missing_and_unreadable_map_images(dataset, outputs, tmp_path, pipeline, room):
    folder, image = tmp_path / "outputs", dataset / "images_upright" / "db" / room.map_names[3]
    image.unlink()
    arguments = ["--dataset", dataset, *SIFT, "--outputs", folder]
    message = pipeline(aachen.main, *arguments).error
    assert "1 listed image(s) are not in" in message and f"db/{room.map_names[3]}" in message
    image.write_bytes(b"")
    message = pipeline(aachen.main, *arguments).error
    assert "1 image(s) could not be read; features of the other 9 are stored" in message
    assert f"{image} is empty" in message


def test_unreadable_query_is_a_failed_one(dataset, outputs, tmp_path, pipeline, room):
    folder = seed(outputs["v1.0"], tmp_path / "outputs")
    broken = f"{QUERY_FOLDERS['night']}/broken.png"
    (dataset / "images_upright" / broken).write_text("no image")
    with (dataset / "queries" / "night_time_queries_with_intrinsics.txt").open("a") as file:
        file.write(f"{broken} PINHOLE 480 360 420 420 240 180\n")
    outcome = pipeline(aachen.main, "--dataset", dataset, *SIFT, "--outputs", folder)
    assert outcome.code == 0 and "1 image(s) could not be read" in outcome.err
    results = read_log(folder / f"{RESULTS}_logs.jsonl")
    assert [result.name for result in results] == [*query_names(room), broken]
    assert_localized(results[:4], room)
    assert results[4].status is Status.FAILED and results[4].reason
    assert "1 of 5 queries have no pose" in outcome.err and "valid)" not in outcome.out
    page = Page(folder / "report.html")
    page.assert_self_contained()
    assert "1 of 5 queries have no pose: broken.png" in page.text


def test_queries_that_the_benchmark_cannot_tell_apart(dataset, tmp_path, pipeline, room):
    """Query lists of the same basename are refused before the work, not at the submission."""
    names = query_names(room)
    other = dataset / "images_upright" / "query" / "other"
    other.mkdir()
    shutil.copy(dataset / "images_upright" / names[0], other)
    with (dataset / "queries" / "day_time_queries_with_intrinsics.txt").open("a") as file:
        file.write(f"query/other/{room.query_names[0]} PINHOLE 480 360 420 420 240 180\n")
    message = pipeline(aachen.main, "--dataset", dataset, *SIFT, "--outputs", tmp_path / "outputs").error
    assert f"would both be written as '{room.query_names[0]}' to Aachen_eval_METHOD.txt" in message
    assert not (tmp_path / "outputs").exists()


def test_ground_truth_of_other_images(datasets, tmp_path, pipeline, room):
    model = pycolmap.Reconstruction(room.model)
    for image in model.images.values():
        image.name = f"other/{image.image_id}.jpg"
    write_model(model, tmp_path / "truth")
    arguments = ["--dataset", datasets["v1.0"], *SIFT, "--outputs", tmp_path / "outputs"]
    message = pipeline(aachen.main, *arguments, "--ground_truth", tmp_path / "truth").error
    assert "has a pose of none of the 4 images to evaluate" in message and "'other/1.jpg'" in message
    assert not (tmp_path / "outputs").exists()


def test_damaged_reference(dataset, tmp_path, pipeline):
    nvm = dataset / "3D-models" / "aachen_cvpr2018_db.nvm"
    nvm.write_text(nvm.read_text()[:400])
    outcome = pipeline(aachen.main, "--dataset", dataset, *SIFT, "--outputs", tmp_path / "outputs")
    assert str(nvm) in outcome.error


@pytest.mark.parametrize("version", ["v2", "v1.0"])
def test_wrong_options(datasets, tmp_path, capsys, version):
    arguments = ["--dataset", str(datasets["v1.0"]), "--version", version, "--limit", "0"]
    with pytest.raises(SystemExit) as stop:
        aachen.main([*arguments, *SIFT, "--outputs", str(tmp_path / "outputs")])
    message = capsys.readouterr().err
    assert stop.value.code == 2 and ("'v2'" in message) is (version == "v2")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_time(datasets, outputs, tmp_path, pipeline, seed):
    arguments = ["--dataset", datasets["v1.0"], *SIFT, "--outputs", tmp_path / "outputs"]
    stages = stage_names(outputs["v1.0"])
    assert kill_at_random("pipelines.aachen", arguments, tmp_path / "outputs", stages, seed) > 0
    assert pipeline(aachen.main, *arguments).code == 0
    for name in (SUBMISSIONS["v1.0"], RESULTS):
        assert (tmp_path / "outputs" / name).read_bytes() == (outputs["v1.0"] / name).read_bytes()
    left = [f.name for f in (tmp_path / "outputs").rglob("*") if f.name.startswith(".")]
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
def test_pavilion(shared_data, tmp_path, pipeline, version):
    """No pose that is believed is wrong, and no lighting is worse than retrieval alone."""
    scene = pavilion_scene(shared_data / "bench" / "pavilion_outer", tmp_path / "work")
    dataset = write_aachen(scene, tmp_path / "dataset", version)
    truth_dir, outputs = dataset / "ground_truth", tmp_path / "outputs"
    arguments = ["--dataset", dataset, "--version", version, *SIFT, "--outputs", outputs, "--num_loc", 20]
    assert pipeline(aachen.main, *arguments, "--ground_truth", truth_dir).code == 0
    results = read_log(outputs / f"{RESULTS}_logs.jsonl")
    assert len(results) == 43 + 32 + 33
    truth = registered_poses(read_model(truth_dir))
    localized = evaluate([r for r in results if r.status is Status.LOCALIZED], truth)
    assert localized.num_queries >= 20 and localized.precision_localized[0] == 1.0
    map_poses = registered_poses(read_model(outputs / SFM))
    for condition in ("day", "sunset", "night"):
        group = [r for r in results if f"query/{condition}/" in r.name]
        alone = {r.name: map_poses[r.retrieved[0]] for r in group}
        assert evaluate(group, truth).recall[-1] >= evaluate(alone, truth).recall[-1]
