import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/** Java's PKIX judges one chain, with revocation of every certificate below the root: bundle chain CRLs EKU [ocsp]. */
final class Verify {
    public static void main(String[] arguments) throws Exception {
        var factory = CertificateFactory.getInstance("X.509");
        var anchors = certificates(factory, arguments[0]).stream()
            .map(root -> new TrustAnchor((X509Certificate) root, null)).collect(Collectors.toSet());
        var chain = new ArrayList<>(certificates(factory, arguments[1]));
        var validator = CertPathValidator.getInstance("PKIX");
        var parameters = new PKIXParameters(anchors);
        // The default, said aloud. Fetches nothing (that takes -Dcom.sun.security.enableCRLDP=true).
        parameters.setRevocationEnabled(true);
        try (var file = open(arguments[2])) {
            var crls = new CollectionCertStoreParameters(factory.generateCRLs(file));
            parameters.addCertStore(CertStore.getInstance("Collection", crls));
        }
        if (arguments.length > 4) {
            // Asks the leaf's OCSP first; the authority's certificate names none, so that is looked for in the CRLs.
            parameters.addCertPathChecker((PKIXRevocationChecker) validator.getRevocationChecker());
        }
        var leaf = new X509CertSelector();
        leaf.setExtendedKeyUsage(Set.of(arguments[3]));
        parameters.setTargetCertConstraints(leaf);
        try {
            validator.validate(factory.generateCertPath(chain), parameters);
        } catch (CertPathValidatorException refused) {
            System.out.println(refused.getReason() + " " + refused.getMessage() + " at " + refused.getIndex());
            System.exit(1);
        }
        // RFC 5280 §4.2.1.6: GeneralName's choices, otherName [0] and URI [6].
        var names = ((X509Certificate) chain.get(0)).getSubjectAlternativeNames();
        var scopes = names.stream().filter(name -> name.get(0).equals(0)).count();
        var ids = names.stream().filter(name -> name.get(0).equals(6)).map(name -> name.get(1)).collect(Collectors.toList());
        System.out.println(ids + " " + scopes + " scopes");
    }

    private static List<Certificate> certificates(CertificateFactory factory, String path) throws Exception {
        try (var file = open(path)) {
            return List.copyOf(factory.generateCertificates(file));
        }
    }

    private static InputStream open(String path) throws IOException {
        return Files.newInputStream(Path.of(path));
    }
}
