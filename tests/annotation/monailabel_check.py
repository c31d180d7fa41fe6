"""Run by a Python that has MONAI Label: opens a batch folder as MONAI Label does, submits a label, prints what it saw.

python monailabel_check.py BATCH_FOLDER LABEL_FILE CASE
"""

import hashlib
import json
import logging
import os
import sys
from pathlib import Path

folder, label_file, case = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
os.environ.update(
    MONAI_LABEL_STUDIES=str(folder),
    MONAI_LABEL_APP_DIR=str(folder / "app"),
    MONAI_LABEL_DATASTORE_AUTO_RELOAD="false",  # no thread that watches the folder
)
try:
    import fastapi.testclient
    from monailabel.app import app as server
    from monailabel.datastore.local import LocalDatastore
    from monailabel.interfaces.datastore import DefaultLabelTag
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
    sys.exit(0)

logging.disable(logging.CRITICAL)
extensions = ["*.nii.gz", "*.nii", "*.nrrd", "*.jpg", "*.png", "*.tif", "*.svs", "*.xml"]  # those of the server
before = json.loads((folder / "datastore_v2.json").read_text(encoding="utf-8"))
store = LocalDatastore(str(folder), extensions=extensions)
seen = {
    "images": store.list_images(),
    "unlabeled": store.get_unlabeled_images(),
    "labeled": store.get_labeled_images(),
    "infos": {image: store.get_image_info(image) for image in store.list_images()},
    "originals": {image: store.get_label_uri(image, DefaultLabelTag.ORIGINAL) for image in store.list_images()},
    "label_infos": {image: store.get_label_info(image, DefaultLabelTag.ORIGINAL) for image in store.list_images()},
    "status": store.status(),
    "unchanged_by_opening": json.loads((folder / "datastore_v2.json").read_text(encoding="utf-8")) == before,
}

with fastapi.testclient.TestClient(server) as client:
    seen["info"] = client.get("/info/").json()
    seen["next"] = []
    for reader in ("anna", "anna", "bert"):
        answer = client.post("/activelearning/by_rank", json={"client_id": reader}).json()
        seen["next"].append([reader, answer["id"], Path(answer["path"]).name])
    image = client.get("/datastore/image", params={"image": case})
    seen["image_sha256"] = hashlib.sha256(image.content).hexdigest()
    original = client.get("/datastore/label", params={"label": case, "tag": "original"})
    seen["original_sha256"] = hashlib.sha256(original.content).hexdigest()
    if "presegmentation" in seen["info"]["models"]:
        model = client.post("/infer/presegmentation", params={"image": case, "output": "image"})
        seen["model_sha256"] = hashlib.sha256(model.content).hexdigest()
        model = client.post("/infer/presegmentation", params={"image": case, "output": "json"})
        seen["model_labels"] = model.json()["label_names"]
    params = {"label_info": [{"name": "hippocampus", "idx": 1}, {"name": "tumour", "idx": 2}], "client_id": "anna"}
    with label_file.open("rb") as label:
        saved = client.put(
            "/datastore/label",
            params={"image": case},
            data={"params": json.dumps(params)},
            files={"label": (label_file.name, label)},
        )
    seen["saved"] = saved.json()

store = LocalDatastore(str(folder), extensions=extensions)
store.refresh()
seen["labeled_after"] = store.get_labeled_images()
seen["unlabeled_after"] = store.get_unlabeled_images()
seen["infos_after"] = {image: store.get_image_info(image) for image in store.list_images()}
seen["final"] = store.get_label_uri(case, DefaultLabelTag.FINAL)
print(json.dumps(seen))
